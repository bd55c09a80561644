"""A report as one HTML file that asks nothing of the network.

Its form is page.html.j2, its style page.css, its behaviour page.js: all of it goes into the file,
as every picture does.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vared_mm.printing import visible
from vared_mm.report.plot_style import Picture

# Shown as text, as a number (None and NaN are missing), or as text that sorts as the number beside.
Cell = str | float | None | tuple[str, float | None]


@dataclass(frozen=True)
class Section:
    """Paragraphs, parted by empty lines, then a table of `Cell`s with a note, then pictures.

    The first cell of a table's row names it.
    """

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    note: str = ""
    pictures: Sequence[Picture] = ()

    @property
    def numeric(self) -> list[bool]:
        """Which columns of the table are aligned as numbers."""
        return [] if self.table is None else (~self.table.map(is_text).any()).tolist()


def is_text(cell: Cell) -> bool:
    return isinstance(cell, str)


def text_and_value(cell: Cell) -> tuple[str, str | None]:
    """The text of a cell, and its number as JavaScript writes it: "" is missing, None no number."""
    if isinstance(cell, str):
        return cell, None
    text, number = cell if isinstance(cell, tuple) else (None, cell)
    if number is None or math.isnan(number):
        return text or "–", ""
    value = repr(float(number)).replace("inf", "Infinity")
    return text or number_text(number), value


def number_text(number: float) -> str:
    """Whole numbers and great ones without a fraction, others with four digits."""
    if number == number // 1 or abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.4g}"


def letter_for_letter(value: Any) -> Any:
    """What would turn or hide letters is shown as an escape of its own."""
    if isinstance(value, Markup):
        return value
    return "\n".join(map(visible, str(value).split("\n")))


PAGES = Environment(
    loader=PackageLoader("vared_mm.report", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    finalize=letter_for_letter,
)
PAGES.filters.update(
    base64=lambda data: Markup(b64encode(data).decode()),
    sha256=lambda text: sha256(text.encode()).digest(),
    text_and_value=text_and_value,
)


def page(title: str, sections: Sequence[Section]) -> str:
    """The file's text. All that comes in is text to it, never markup."""
    return PAGES.get_template("page.html.j2").render(title=title, sections=sections)
