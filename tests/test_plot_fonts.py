"""Names of all scripts are told apart in pictures, and dollars are dollars."""

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from vared_mm.report import plot_fonts
from vared_mm.report.plot_style import png


def ticks(*names):
    def draw():
        figure = Figure(figsize=(3, 1))
        panel = figure.subplots()
        panel.set_xticks(range(len(names)), names)
        panel.set_title(names[0])
        return figure

    return draw


@pytest.fixture
def _no_other_fonts(monkeypatch):
    monkeypatch.setattr(plot_fonts, "family_with", lambda letter: None)


@pytest.mark.usefixtures("_no_other_fonts")
@pytest.mark.parametrize(("one", "other"), [("跳舞", "跑步"), ("🏀", "🏁"), ("a\u202eb", "ab")])
def test_letters_that_no_font_has_are_escapes(one, other):
    assert png(ticks(one)) != png(ticks(other))
    figure = ticks(one, "straße")()
    plot_fonts.spell_out(figure)
    first, second = plot_fonts.labels_of(figure.axes[0].xaxis)
    assert first == figure.axes[0].get_title() != one
    assert first.isascii()
    assert second == "straße"


def test_a_font_that_has_the_letters_is_asked_for(monkeypatch):
    monkeypatch.setattr(plot_fonts, "family_with", {"跳": "Some Han"}.get)
    figure = ticks("跳🏀")()
    assert plot_fonts.spell_out(figure) == ["Some Han"]
    assert figure.axes[0].get_title() == "跳\\U0001f3c0"


def test_the_installed_fonts_are_looked_through():
    file = matplotlib.font_manager.findfont("DejaVu Sans")
    assert "ü" in plot_fonts.readable_letters(file)
    assert plot_fonts.family_with("\U0010fffd") is None


def test_dollars_are_drawn_as_dollars(monkeypatch):
    monkeypatch.setattr(MathTextParser, "parse", lambda *words: pytest.fail("a formula"))
    assert png(ticks("Ba$$in", "pay $5 or $6"))
