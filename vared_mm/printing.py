"""What command lines print: texts of the user letter for letter, and tables."""

from __future__ import annotations

import sys
import unicodedata
from io import TextIOWrapper
from typing import Any

from rich.console import Console
from rich.text import Text


def visible(text: str) -> str:
    """On one line and letter for letter: what would steer a terminal, or cannot be printed, as an
    escape."""
    return "".join(letter if shown(letter) else escape(letter) for letter in text)


def shown(letter: str) -> bool:
    """Not: control characters, directions, bytes that are no UTF-8. But joiners, which some scripts
    are written with."""
    return unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or letter in JOINERS


JOINERS = "\u200c\u200d"


def escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


class PlainConsole(Console):
    """Prints texts letter for letter: no markup, no pictures for `:names:`, nothing that steers."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str("\n".join(map(visible, text.split("\n"))), **settings)


def console() -> Console:
    """As wide as the terminal; into a file or a pipe, as wide as tables want."""
    if isinstance(sys.stdout, TextIOWrapper):
        # Letters that the encoding of the output has not shall not cost the table.
        sys.stdout.reconfigure(errors="backslashreplace")
    return PlainConsole(width=None if sys.stdout.isatty() else 150)
