"""Text in drawings: letters of any script, or what tells names apart."""

import numpy as np
import pytest

from vared_mm.infer import canvas
from vared_mm.infer.canvas import USUAL_FONT, lettering, paper, put_text, width_of
from vared_mm.infer.segmentation_overlay import LEGEND_WIDTH, Legend, draw_overlay, in_colour


@pytest.fixture
def _one_font(monkeypatch):
    """As on a machine without fonts but that of matplotlib."""
    lettering.cache_clear()
    monkeypatch.setattr(canvas, "fonts", lambda: iter([str(USUAL_FONT)]))
    yield
    lettering.cache_clear()


@pytest.mark.usefixtures("_one_font")
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("52.1% road [k1] $x", "52.1% road [k1] $x"),
        ("прыжок à", "прыжок à"),
        ("跳a", r"\u8df3a"),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_letters_that_no_font_has_are_told_by_their_number(text, wanted):
    assert lettering(text)[0] == wanted


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    has = {"none": frozenset("a"), "chinese": frozenset("a跳")}
    lettering.cache_clear()
    monkeypatch.setattr(canvas, "fonts", lambda: iter(has))
    monkeypatch.setattr(canvas, "letters_of", has.get)
    monkeypatch.setattr(canvas, "font_in", lambda file: file)
    assert lettering("跳a") == ("跳a", "chinese")
    lettering.cache_clear()


def test_text_stands_on_its_line_in_its_colour_and_is_cut_at_the_edges():
    sheet = paper(40, 60)
    put_text(sheet, "H", (10, 30), (255, 0, 0))
    rows, columns = np.nonzero((sheet != 255).any(-1))
    assert rows.max() == 29
    assert 10 <= columns.min() < 14
    assert sheet[20:30, 10:22].min(axis=(0, 1)).tolist() == [255, 0, 0]
    put_text(sheet, "H" * 50, (-5, 2))
    assert sheet.shape == (40, 60, 3)


def test_long_names_widen_the_legend():
    names = ("road", "r" * 60)
    legend = Legend(names, np.zeros((2, 3), np.uint8))
    drawn = draw_overlay(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), int), legend, "")
    assert drawn.shape[1] >= 20 + width_of(names[1]) > 20 + LEGEND_WIDTH


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        (np.full((1, 1), 7, np.uint8), [7, 7, 7]),
        (np.full((1, 1, 1), 7, np.float32), [7, 7, 7]),
        (np.array([[[1, 2, 3, 4]]], np.uint8), [1, 2, 3]),
        (np.array([[[1, 2]]], np.uint8), [1, 1, 1]),
        (np.array([[[0, 32896, 65535]]], np.uint16), [0, 128, 255]),
    ],
)
def test_pictures_of_any_channels_are_drawn_on(image, wanted):
    assert in_colour(image)[0, 0].tolist() == wanted
