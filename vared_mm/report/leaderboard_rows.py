"""Which rows of a board are told, and in which order."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vared_mm.report.leaderboard import Board, Cell

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": lambda a, b: not math.isclose(a, b),
    "=": math.isclose,
    "<": operator.lt,
    ">": operator.gt,
}
GRAMMAR = re.compile(r"\s*(.+?)\s*(<=|>=|!=|=|<|>|~)\s*(.*?)\s*")


@dataclass(frozen=True)
class Filter:
    """`column OP value`: numbers by < <= > >= = !=; texts by = != and, contained in it, by ~."""

    column: str
    operation: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Filter:
        found = GRAMMAR.fullmatch(text)
        if not found or not found[3]:
            raise ValueError(
                f"filter {text!r} is not understood; wanted COLUMN OP VALUE with one of "
                f"{', '.join([*COMPARISONS, '~'])}, like 'full_gmacs<0.2' or 'name~vared'"
            )
        return cls(*found.groups())

    def holds(self, cell: Cell) -> bool:
        """A number that is missing is neither less nor greater than any; the same is what equals
        the number or reads like it, rounded."""
        wanted = self.value.casefold()
        if self.operation == "~":
            return wanted in cell.text.casefold()
        number, same = as_number(self.value), cell.text.casefold() == wanted
        if self.operation in ("=", "!=") and (same or cell.value is None or number is None):
            return same == (self.operation == "=")
        if number is None:
            raise ValueError(
                f"filter '{self.column}{self.operation}{self.value}' compares numbers, and "
                f"{self.value!r} is none"
            )
        return cell.value is not None and COMPARISONS[self.operation](cell.value, number)


def as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def filtered(board: Board, filters: Sequence[Filter]) -> Board:
    """The rows of which all filters hold."""
    places = [(place_of(board, f.column), f) for f in filters]
    rows = tuple(row for row in board.rows if all(f.holds(row[i]) for i, f in places))
    return replace(board, rows=rows)


def ordered(board: Board, column: str) -> Board:
    """By a column, descending with a leading minus; rows without a number there come last."""
    descending = column.startswith("-")
    place = place_of(board, column.removeprefix("-"))
    if all(row[place].value is None for row in board.rows):
        rows = sorted(board.rows, key=lambda row: row[place].text.casefold(), reverse=descending)
        return replace(board, rows=tuple(rows))
    known = [row for row in board.rows if row[place].value is not None]
    missing = [row for row in board.rows if row[place].value is None]
    known.sort(key=lambda row: row[place].value or 0.0, reverse=descending)
    return replace(board, rows=(*known, *missing))


def place_of(board: Board, column: str) -> int:
    if column not in board.columns:
        raise ValueError(
            f"{board.title!r} has no column {column!r}; there are {', '.join(board.columns)}"
        )
    return board.columns.index(column)
