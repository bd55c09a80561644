"""Names of all scripts are told apart in pictures, and dollars are dollars."""

import pytest
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from vared_mm.fonts import USUAL_FONT, letters_of
from vared_mm.report import plot_fonts
from vared_mm.report.plot_style import png


def ticks(*names):
    figure = Figure(figsize=(3, 1))
    panel = figure.subplots()
    panel.set_xticks(range(len(names)), names)
    panel.set_title(names[0])
    return figure


@pytest.fixture
def one_font(monkeypatch):
    """As on a machine without fonts but that of matplotlib."""
    monkeypatch.setattr(plot_fonts, "fonts", lambda: iter([str(USUAL_FONT)]))
    plot_fonts.family_with.cache_clear()
    yield
    plot_fonts.family_with.cache_clear()


@pytest.mark.usefixtures("one_font")
@pytest.mark.parametrize(("one", "other"), [("跳舞", "跑步"), ("🏀", "🏁"), ("a\u202eb", "ab")])
def test_letters_that_no_font_has_are_escapes(one, other):
    assert png(ticks, one) != png(ticks, other)
    figure = ticks(one, "straße")
    plot_fonts.spell_out(figure)
    figure.draw_without_rendering()
    first, second = (label.get_text() for label in figure.axes[0].get_xticklabels())
    assert first == figure.axes[0].get_title() != one
    assert first.isascii()
    assert second == "straße"


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    families = {"跳": "Some Han", "🏀": None}
    monkeypatch.setattr(
        plot_fonts, "family_with", lambda letter: families.get(letter, "DejaVu Sans")
    )
    figure = ticks("跳🏀")
    plot_fonts.spell_out(figure)
    title = figure.axes[0].title
    assert title.get_text() == "跳\\U0001f3c0"
    assert "Some Han" in title.get_fontfamily()


def test_the_installed_fonts_are_looked_through():
    assert "ü" in letters_of(str(USUAL_FONT))
    assert plot_fonts.family_with("ü") == "DejaVu Sans"
    assert plot_fonts.family_with("\U0010fffd") is None


def test_dollars_are_drawn_as_dollars(monkeypatch):
    monkeypatch.setattr(MathTextParser, "parse", lambda *words: pytest.fail("a formula"))
    assert png(ticks, "Ba$$in", "pay $5 or $6")
