"""A hook of mkdocs: what links that serve readers of the repository lead to on the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# No pictures: mkdocs itself looks for those, and knows the ones that a notebook made.
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **kwargs: Any) -> str:
    """Links to notebooks become links to their pages; those to folders and to files outside docs/,
    which are of the repository and no pages, become names.

    Raises:
        FileNotFoundError: There is no such file.
    """
    docs = Path(config.docs_dir)
    here = (docs / page.file.src_uri).parent

    def shown(found: re.Match) -> str:
        text, target = found.groups()
        file = (here / target).resolve()
        if not file.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {target}, which is not there")
        if file.is_file() and file.is_relative_to(docs):
            return (
                f"[{text}]({target.removesuffix('.ipynb') + '.md'})"
                if file.suffix == ".ipynb"
                else found[0]
            )
        return f"{text} (`{file.relative_to(docs.parent)}`)"

    return LINK.sub(shown, markdown)
