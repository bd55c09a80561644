"""Boards as text for a terminal, Markdown, CSV, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

from pandas import DataFrame
from rich.table import Table

from vared_mm.launch import PlainConsole, visible
from vared_mm.report import html_page
from vared_mm.report.leaderboard import Board
from vared_mm.report.leaderboard_cells import MISSING, Cell


def terminal(boards: Sequence[Board], width: int | None = None) -> str:
    """As wide as the tables want, unless a width is given."""
    held = io.StringIO()
    console = PlainConsole(file=held, width=width or 10_000, color_system=None)
    for board in boards:
        table = Table(title=one_line(board.title), title_justify="left")
        for place, column in enumerate(board.columns):
            side: Any = "right" if numeric(board, place) else "left"
            table.add_column(one_line(column), justify=side)
        for row in board.rows:
            table.add_row(*(one_line(cell.text) for cell in row))
        console.print(table)
        for note in board.notes:
            console.print(one_line(note))
        console.print()
    return "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n"


def one_line(text: str) -> str:
    """Texts are of files that others may have written: nothing in them steers what shows them."""
    return visible(" ".join(text.split()))


def numeric(board: Board, place: int) -> bool:
    return any(row[place].value is not None for row in board.rows)


def markdown(boards: Sequence[Board]) -> str:
    return "\n\n".join(markdown_of(board) for board in boards) + "\n"


def markdown_of(board: Board) -> str:
    marks = ["--:" if numeric(board, i) else "---" for i in range(len(board.columns))]
    lines = [list(map(markdown_text, board.columns)), marks]
    lines += [[markdown_text(cell.text) for cell in row] for row in board.rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(
        [f"**{markdown_text(board.title)}**", table, *map(markdown_text, board.notes)]
    )


def markdown_text(text: str) -> str:
    """Also what is markup at the start of a line alone, in the middle of one word."""
    marks = r"[\\`*_<>\[\]|~$]|&(?=#?\w+;)|^[-+=#]|(?<=^\d)[.)](?= )"
    return re.sub(marks, r"\\\g<0>", one_line(text))


def comma_separated(boards: Sequence[Board]) -> str:
    """Whole numbers, not their rounded texts; of columns with several results the deviation too."""
    if len(boards) != 1:
        raise ValueError(f"csv holds one table, and there are {len(boards)}; choose one by --table")
    (board,) = boards
    spread = [any(row[i].std is not None for row in board.rows) for i in range(len(board.columns))]
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow([
        name
        for column, several in zip(board.columns, spread, strict=True)
        for name in ((csv_text(column), csv_text(f"{column} std"))[: 1 + several])
    ])  # fmt: skip
    for row in board.rows:
        line: list[str | float | None] = []
        for place, cell in enumerate(row):
            line.append(csv_value(cell))
            line += [cell.std] if spread[place] else []
        writer.writerow(line)
    return held.getvalue()


def csv_value(cell: Cell) -> str | float | None:
    """Nothing where a number is missing, also where the whole column is."""
    return cell.value if cell.value is not None or cell.text == MISSING else csv_text(cell.text)


def csv_text(text: str) -> str:
    """Spreadsheets calculate what begins like a formula, unless a quote stands before it."""
    text = one_line(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "²": r"$^2$", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}",
    # After the end of a row both are arguments of it.
    "[": "{[}", "*": "{*}", "|": r"\textbar{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}  # fmt: skip


def latex(boards: Sequence[Board]) -> str:
    return "\n".join(latex_of(board) for board in boards)


def latex_of(board: Board) -> str:
    kinds = "".join("r" if numeric(board, i) else "l" for i in range(len(board.columns)))
    lines = [" & ".join(map(latex_text, board.columns)), r"\midrule"]
    lines += [" & ".join(latex_text(cell.text) for cell in row) for row in board.rows]
    body = "\n".join(line if line.startswith("\\mid") else f"{line} \\\\" for line in lines)
    notes = "".join(f"\n{latex_text(note)}\\par" for note in board.notes)
    return (
        "\\begin{table}\n\\caption{" + latex_text(board.title) + "}\n\\begin{tabular}{" + kinds
        + "}\n\\toprule\n" + body + "\n\\bottomrule\n\\end{tabular}" + notes + "\n\\end{table}\n"
    )  # fmt: skip


def latex_text(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in one_line(text))


def html(boards: Sequence[Board]) -> str:
    return html_page.page("Leaderboard", [section_of(board) for board in boards])


def section_of(board: Board) -> html_page.Section:
    rows = [
        [(cell.text, cell.value) if numeric(board, i) else cell.text for i, cell in enumerate(row)]
        for row in board.rows
    ]
    table = DataFrame(rows, columns=list(board.columns))
    return html_page.Section(board.title, table=table, note=" ".join(board.notes))


FORMATS: dict[str, Callable[[Sequence[Board]], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "html": html,
}
