"""A board filtered, sorted, and written as each format wants its texts."""

import csv
import io
from dataclasses import replace

import pandas as pd
import pytest

from vared_mm.report.leaderboard import Board
from vared_mm.report.leaderboard_formats import FORMATS

NAN = float("nan")
BOARD = Board(
    "A & B_1",
    pd.DataFrame({
        "name": ["vared_x|y", "50% of {z}", "=plain, <b>"], "n": ["2.0 ± 0.5", "–", "10.0"],
    }),
    pd.DataFrame({
        "name": ["vared_x|y", "50% of {z}", "=plain, <b>"],
        "n": [2.0, NAN, 10.0], "n std": [0.5, NAN, NAN],
    }),
    ("Note #1.",),
)  # fmt: skip


def rows(board):
    return board.texts.index.tolist()


@pytest.mark.parametrize(("text", "kept"), [
    ("n < 3", [0]), ("n >= 2", [0, 2]), ("n == 10", [2]), ("n != 2", [1, 2]), ("n.isna()", [1]),
    ("name.str.contains('VARED', case=False)", [0]), ("name == '50% of {z}'", [1]),
    ("name != 'vared_x|y'", [1, 2]), ("`n std` == 0.5", [0]), ("n > 1 and n < 5", [0]),
    ("n.round() == 2 or not name.str.startswith('vared')", [0, 1, 2]),
])  # fmt: skip
def test_a_filter_keeps_the_rows_it_holds_for(text, kept):
    board = BOARD.filtered(text)
    assert rows(board) == board.numbers.index.tolist() == kept


@pytest.mark.parametrize(("text", "message"), [
    ("n", "filter 'n' is not understood: it is neither true nor false; wanted an expression of"),
    ("n <", "is not understood"),
    ("n < 'many'", "is not understood"),
    ("m < 1", "'m' is not defined; .* the columns of 'A & B_1' are name, n, `n std`"),
])  # fmt: skip
def test_a_filter_that_says_nothing_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        BOARD.filtered(text)


@pytest.mark.parametrize(("column", "order"), [
    ("n", [0, 2, 1]), ("-n", [2, 0, 1]), ("name", [1, 2, 0]), ("-name", [0, 2, 1]),
])  # fmt: skip
def test_rows_are_sorted_and_missing_numbers_come_last(column, order):
    assert rows(BOARD.ordered(column)) == order


def test_markdown_escapes_what_it_would_read():
    assert FORMATS["markdown"]([BOARD]) == (
        "**A & B\\_1**\n\n"
        "| name           |         n |\n"
        "|:---------------|----------:|\n"
        "| vared\\_x\\|y    | 2.0 ± 0.5 |\n"
        "| 50% of {z}     |         – |\n"
        "| \\=plain, \\<b\\> |      10.0 |\n\n"
        "Note #1.\n"
    )


def test_latex_escapes_what_it_would_read():
    text = FORMATS["latex"]([BOARD])
    head = "\\begin{tabular}{lr}\n\\toprule\nname & n \\\\\n\\midrule\n"
    assert f"\\caption{{A \\& B\\_1}}\n{head}" in text
    assert "vared\\_x\\textbar{}y & 2.0 $\\pm$ 0.5 \\\\\n50\\% of \\{z\\} & -- \\\\\n" in text
    assert "=plain, \\ensuremath{<}b\\ensuremath{>} & 10.0 \\\\\n\\bottomrule\n" in text
    assert "Note \\#1." in text


def test_csv_holds_whole_numbers_and_the_deviation():
    rows = list(csv.reader(io.StringIO(FORMATS["csv"]([BOARD]))))
    assert rows == [
        ["name", "n", "n std"], ["vared_x|y", "2.0", "0.5"], ["50% of {z}", "", ""],
        ["'=plain, <b>", "10.0", ""],
    ]  # fmt: skip
    unmeasured = FORMATS["csv"](
        [replace(BOARD, texts=BOARD.texts[1:2], numbers=BOARD.numbers[["name", "n"]][1:2])]
    )
    assert unmeasured == "name,n\n50% of {z},\n"
    with pytest.raises(ValueError, match="csv holds one table, and there are 2; choose one by"):
        FORMATS["csv"]([BOARD, BOARD])


def test_html_and_terminal_show_texts_as_they_are():
    page = FORMATS["html"]([BOARD])
    assert "=plain, &lt;b&gt;" in page
    assert "<b>" not in page
    shown = FORMATS["terminal"]([replace(BOARD, title="[bold]x")])
    assert "[bold]x" in shown
    assert "vared_x|y" in shown
    assert "Note #1." in shown


ODD = ["=1+1", "+1", "-1", "@x", "\t=1", "\x1b[2J", "[5pt]", "*", "a\u202eb", "a\nb", "[red]x",
       ":cat:", "$x$", "&lt;"]  # fmt: skip


def odd_board(text):
    texts, numbers = (pd.DataFrame({text: [text], "n": [n]}) for n in ("1", 1.0))
    return Board(text, texts, numbers, (text,))


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("form", FORMATS)
def test_texts_of_others_are_letters_in_every_format(form, text):
    shown = FORMATS[form]([odd_board(text)])
    assert not {"\x1b", "\u202e", "\t"} & set(shown)
    if form == "csv":
        assert not [c for row in csv.reader(io.StringIO(shown)) for c in row if c[0] in "=+-@"]
    if form == "latex":
        body = shown[shown.index("\\toprule") :]
        assert not [line for line in body.splitlines() if line.startswith(("[", "*"))]
    if form == "terminal" and text.isprintable():
        assert shown.count(text) == 4
    if form == "markdown" and text == "&lt;":
        assert "\\&lt;" in shown
