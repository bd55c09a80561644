"""A hook of mkdocs: blocks of ```math become MathML, which browsers show without any script.

GitHub shows the same blocks by itself.
"""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

BLOCK = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TAG = re.compile(r"\\tag\{(\w+)\}")


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    return BLOCK.sub(lambda found: equation(found[1]), markdown)


def equation(source: str) -> str:
    """One equation with the number that its \\tag gives."""
    tag = TAG.search(source)
    number = f'<span id="eq-{tag[1]}">({tag[1]})</span>' if tag else ""
    shown = convert(TAG.sub("", source).strip(), display="block")
    return f'<div class="equation">{shown}{number}</div>'
