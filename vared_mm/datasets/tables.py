"""Texts, lists and csv tables as people and their programs write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

DELIMITERS = ",;\t|"


class AnnotationError(ValueError):
    """A source or a folder from which no annotation file can be made."""


def read_text(file: Path) -> str:
    return text_in(file, file.read_bytes())


def text_in(file: Path, content: bytes) -> str:
    """Text in UTF-8, with or without the mark that some editors put before it, or in UTF-16."""
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{file} is no text in UTF-8: {error.reason}; save it as such"
        ) from None
    if "\0" in text:
        raise AnnotationError(f"{file} is no text: it holds NUL bytes")
    return text


def read_lines(file: Path) -> list[str]:
    """The lines that are not blank, without the blanks around them."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def read_csv(
    file: Path, columns: Sequence[str], filled: Sequence[str] = ()
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a csv with a header, each with its line, without the blanks around its values.

    Columns are separated by commas, semicolons, tabs or bars.

    Args:
        columns: those that there have to be.
        filled: those that have to tell something in each row.

    Raises:
        AnnotationError: naming the file, and the line that is no row of such a table.
    """
    header, *rows = [*records(file, columns)] or [(1, [])]
    names = header[1]
    missing = [name for name in columns if name not in names]
    if missing:
        raise AnnotationError(
            f"{file} has no {', '.join(missing)}; wanted the columns {', '.join(columns)}, "
            f"separated by one of {DELIMITERS!r}; there are {names}"
        )
    if not rows:
        raise AnnotationError(f"{file} has no row below its header")
    if twice := [name for name in columns if names.count(name) > 1]:
        raise AnnotationError(f"{file} has the column {twice[0]!r} twice")
    table = []
    for line, values in rows:
        if any(values[len(names) :]):
            raise AnnotationError(
                f"{file}, line {line} has {len(values)} values for {len(names)} columns: {values}"
            )
        row = {**dict.fromkeys(names, ""), **dict(zip(names, values, strict=False))}
        if empty := [name for name in filled if not row[name]]:
            raise AnnotationError(f"{file}, line {line} has no {empty[0]}: {values}")
        table.append((line, row))
    return table


def records(file: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, list[str]]]:
    """The lines of a csv that are not blank, each with its number and its values.

    What separates those is seen from the first line, which has all `columns` then.
    """
    text = read_text(file)
    # Excel writes a line 'sep=;' before the header where it was asked to.
    if text[:4].lower() == "sep=":
        text = "\n" + text.partition("\n")[2]
    first = next(filter(str.strip, text.splitlines()), "")
    parts = {mark: [part.strip(' "') for part in first.split(mark)] for mark in DELIMITERS}
    mark = max(
        DELIMITERS, key=lambda one: (sum(name in parts[one] for name in columns), len(parts[one]))
    )
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=mark, strict=True, skipinitialspace=True
    )
    line = 1
    try:
        for values in reader:
            values = [value.strip() for value in values]
            if broken := next((v for v in values if "\n" in v or "\r" in v), None):
                raise csv.Error(f"a value has more than one line, {broken[:40]!r}")
            if any(values):
                yield reader.line_num, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError(
            f"{file}, line {line} is no row of a csv: {error}; does a quote not close there?"
        ) from None


def is_number(text: str) -> bool:
    """Whether it is written in the digits 0 to 9 alone, and no more of them than a count has."""
    return text.isascii() and text.isdecimal() and len(text) < 19


def are_numbers(names: Iterable[str]) -> bool:
    """Whether all are whole numbers."""
    return all(is_number(name.removeprefix("-")) for name in names)


def in_order(names: Iterable[str]) -> list[str]:
    """Each once: by value where all are whole numbers, else by their letters."""
    each = sorted(set(names))
    return sorted(each, key=int) if are_numbers(each) else each
