"""A report as one HTML file that asks nothing of the network.

Its style is page.css, its behaviour page.js: both go into the file, as every picture does.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape as markup_escape
from pathlib import Path

from vared_mm.launch import visible

# Shown as text, as a number (None and NaN are missing), or as text that sorts as the number beside.
Cell = str | float | None | tuple[str, float | None]

STYLE = Path(__file__).with_name("page.css")
SCRIPT = Path(__file__).with_name("page.js")
MISSING = "–"
# Tables of more rows can be filtered; so few are seen at a glance.
FEW_ROWS = 3
PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first cell of a row names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: a row has {len(row)} cells, wanted one for each of "
                    f"the {len(self.columns)} columns {list(self.columns)}; came {list(row)}"
                )


@dataclass(frozen=True)
class Picture:
    """The bytes of a PNG or SVG file, and of its twin for dark pages where there is one."""

    title: str
    caption: str
    light: bytes
    dark: bytes | None = None

    def __post_init__(self) -> None:
        for data in (self.light, self.dark):
            if data is not None and picture_type(data) is None:
                raise ValueError(
                    f"picture {self.title!r} starts with {data[:12]!r}; wanted the bytes of a PNG "
                    "or SVG file"
                )


@dataclass(frozen=True)
class Section:
    """Paragraphs, parted by empty lines, then tables and pictures."""

    title: str
    text: str = ""
    items: Sequence[Table | Picture] = ()


def page(title: str, sections: Sequence[Section]) -> str:
    """The file's text. All that comes in is text to it, never markup."""
    style, script = STYLE.read_text(), SCRIPT.read_text()
    # Nothing is fetched, and of scripts this one alone may run.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    )
    links = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(sections))
    body = "\n".join(section_html(f"s{i}", s) for i, s in enumerate(sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
<noscript><style>.control {{ display: none }}</style></noscript>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<label class="control">Colours <select id="colours">
<option value="light dark">as the system</option>
<option value="light">light</option>
<option value="dark">dark</option>
</select></label>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def escape(text: str) -> str:
    """Letter for letter; what would turn or hide letters as an escape of its own."""
    return markup_escape("\n".join(map(visible, text.split("\n"))))


def section_html(anchor: str, section: Section) -> str:
    paragraphs = [f"<p>{escape(p.strip())}</p>" for p in section.text.split("\n\n") if p.strip()]
    items = [item_html(f"{anchor}-{i}", item) for i, item in enumerate(section.items)]
    heading = f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(section.title)}</h2>'
    return "\n".join([heading, *paragraphs, *items, "</section>"])


def item_html(anchor: str, item: Table | Picture) -> str:
    return table_html(anchor, item) if isinstance(item, Table) else picture_html(anchor, item)


def table_html(anchor: str, table: Table) -> str:
    title = escape(table.title)
    # A column of numbers is aligned as one.
    classes = [
        "" if any(isinstance(row[i], str) for row in table.rows) else ' class="number"'
        for i in range(len(table.columns))
    ]
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(column)}</button></th>'
        for column, kind in zip(table.columns, classes, strict=True)
    )
    rows = "\n".join(row_html(row, classes) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    box = f'<input type="search" placeholder="Filter rows" aria-label="Filter {title}">'
    control = f'<p class="control">{box}\n<output></output></p>'
    # What scrolls has to be reachable by the keyboard.
    return f"""<div class="table">
<h3 id="{anchor}">{title}</h3>
{control if len(table.rows) > FEW_ROWS else ""}
<div class="scroll" role="region" aria-labelledby="{anchor}" tabindex="0">
<table aria-labelledby="{anchor}">
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table></div>{note}</div>"""


def row_html(row: Sequence[Cell], classes: Sequence[str]) -> str:
    cells = []
    for i, (cell, kind) in enumerate(zip(row, classes, strict=True)):
        text, value = shown(cell)
        data = "" if value is None else f' data-value="{value}"'
        tag, scope = ("td", "") if i else ("th", ' scope="row"')
        cells.append(f"<{tag}{scope}{data}{kind}>{escape(text)}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"


def shown(cell: Cell) -> tuple[str, str | None]:
    """The text of a cell, and its number as JavaScript writes it: "" is missing, None no number."""
    if isinstance(cell, str):
        return cell, None
    text, number = cell if isinstance(cell, tuple) else (None, cell)
    if number is None or math.isnan(number):
        return text or MISSING, ""
    value = repr(float(number)).replace("inf", "Infinity")
    return text if text is not None else number_text(number), value


def number_text(number: float) -> str:
    """Whole numbers and great ones without a fraction, others with four digits."""
    if number == number // 1 or abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.4g}"


def picture_html(anchor: str, picture: Picture) -> str:
    title = escape(picture.title)
    dark = ""
    if picture.dark is not None:
        media = "screen and (prefers-color-scheme: dark)"
        dark = f'<source srcset="{data_uri(picture.dark)}" media="{media}">'
    return f"""<figure aria-labelledby="{anchor}">
<picture>{dark}<img src="{data_uri(picture.light)}" alt="{title}"></picture>
<figcaption><strong id="{anchor}">{title}</strong> {escape(picture.caption)}</figcaption>
</figure>"""


def data_uri(picture: bytes) -> str:
    return f"data:{picture_type(picture)};base64,{b64encode(picture).decode()}"


def picture_type(data: bytes) -> str | None:
    if data.startswith(PNG_START):
        return "image/png"
    return "image/svg+xml" if data.lstrip().startswith((b"<svg", b"<?xml")) else None
