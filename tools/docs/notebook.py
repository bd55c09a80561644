"""A hook of mkdocs: runs the notebooks of docs/ from their first cell to the last, and makes pages
of what they answered.

A cell that fails ends the build.
"""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

# A terminal's colours, and what a line held before it was written anew.
OVERWRITTEN = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[^\n]*\r(?!\n)")
# Seconds for a cell and for the kernel to start, on a machine that does much else besides.
PATIENCE: dict[str, Any] = {"timeout": 600, "startup_timeout": 300}


def on_files(files: Files, config: Any) -> None:
    for source in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = nbformat.read(source.abs_src_path, as_version=4)
        with TemporaryDirectory() as folder:
            place = {"metadata": {"path": folder}}
            NotebookClient(notebook, **PATIENCE, resources=place).execute()
        files.remove(source)
        stem = source.src_uri.removesuffix(".ipynb")
        text, pictures = page_of(notebook, Path(stem).name)
        files.append(File.generated(config, f"{stem}.md", content=text))
        for name, content in pictures.items():
            uri = str(Path(stem).with_name(name))
            files.append(File.generated(config, uri, content=content))


def page_of(notebook: Any, stem: str) -> tuple[str, dict[str, bytes]]:
    """Markdown, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        told = ""
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}_{len(pictures)}.png"
                pictures[name] = b64decode(data["image/png"])
                parts.append(f"![what the cell above shows]({name})")
            else:
                told += output.get("text", data.get("text/plain", ""))
        if told := OVERWRITTEN.sub("", told).rstrip():
            parts.append(f"```text\n{told}\n```")
    return "\n\n".join(parts) + "\n", pictures
