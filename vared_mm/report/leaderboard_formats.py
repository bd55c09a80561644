"""Boards as text for a terminal, Markdown, CSV, LaTeX (booktabs) and HTML.

Their texts are of files that others may have written: nothing in them steers what shows them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import tabulate
from rich.table import Table

from vared_mm.printing import PlainConsole, visible
from vared_mm.report import html_page
from vared_mm.report.leaderboard import Board
from vared_mm.report.same_model import MISSING


def one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def written(board: Board, letters: Callable[[str], str]) -> tuple[str, pd.DataFrame, list[str]]:
    """Title, texts and notes, in the letters of a format."""
    texts = board.texts.map(lambda text: letters(one_line(text)))
    texts.columns = [letters(one_line(column)) for column in board.texts]
    title, *notes = (letters(one_line(text)) for text in (board.title, *board.notes))
    return title, texts, notes


def alignments(board: Board) -> list[Any]:
    return ["right" if board.numeric(column) else "left" for column in board.texts]


def terminal(boards: Sequence[Board], width: int | None = None) -> str:
    """As wide as the tables want, unless a width is given."""
    held = io.StringIO()
    console = PlainConsole(file=held, width=width or 10_000, color_system=None)
    for board in boards:
        title, texts, notes = written(board, str)
        table = Table(title=title, title_justify="left")
        for column, side in zip(texts, alignments(board), strict=True):
            table.add_column(column, justify=side)
        for row in texts.itertuples(index=False):
            table.add_row(*row)
        console.print(table, *notes, "", sep="\n")
    return "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n"


def markdown(boards: Sequence[Board]) -> str:
    return "\n\n".join(map(markdown_of, boards)) + "\n"


def markdown_of(board: Board) -> str:
    title, texts, notes = written(board, markdown_text)
    table = texts.to_markdown(index=False, disable_numparse=True, colalign=alignments(board))
    return "\n\n".join([f"**{title}**", table, *notes])


def markdown_text(text: str) -> str:
    """Also what is markup at the start of a line alone, in the middle of one word."""
    marks = r"[\\`*_<>\[\]|~$]|&(?=#?\w+;)|^[-+=#]|(?<=^\d)[.)](?= )"
    return re.sub(marks, r"\\\g<0>", text)


def comma_separated(boards: Sequence[Board]) -> str:
    """Whole numbers, not their rounded texts; of columns with several results the deviation too."""
    if len(boards) != 1:
        raise ValueError(f"csv holds one table, and there are {len(boards)}; choose one by --table")
    (board,) = boards
    texts = board.texts.replace(MISSING, None).reindex(columns=board.numbers.columns)
    values = board.numbers.astype(object).where(board.numbers.notna(), texts).map(csv_value)
    return values.rename(columns=csv_value).to_csv(index=False, lineterminator="\n")


def csv_value(value: Any) -> Any:
    """Spreadsheets calculate what begins like a formula, unless a quote stands before it."""
    text = one_line(value) if isinstance(value, str) else ""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text or value


# Besides what tabulate knows: letters that fonts may lack, and what the end of a row before it,
# whose argument it would be, makes of it.
LATEX = tabulate.LATEX_ESCAPE_RULES | {
    "±": r"$\pm$", "²": r"$^2$", "–": "--", "|": r"\textbar{}", "[": "{[}", "*": "{*}",
}  # fmt: skip


def latex(boards: Sequence[Board]) -> str:
    return "\n".join(map(latex_of, boards))


def latex_of(board: Board) -> str:
    title, texts, notes = written(board, lambda text: text.translate(str.maketrans(LATEX)))
    kinds = "".join(side[0] for side in alignments(board))
    table = texts.to_latex(index=False, escape=False, caption=title, column_format=kinds)
    end = "\\end{table}"
    return table.replace(end, "".join(f"{note}\\par\n" for note in notes) + end + "\n")


def html(boards: Sequence[Board]) -> str:
    return html_page.page("Leaderboard", [section_of(board) for board in boards])


def section_of(board: Board) -> html_page.Section:
    table = board.texts.copy()
    for name in filter(board.numeric, table):
        table[name] = list(zip(table[name], board.numbers[name], strict=True))
    return html_page.Section(board.title, table=table, note=" ".join(board.notes))


FORMATS: dict[str, Callable[[Sequence[Board]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "html": html,
}
