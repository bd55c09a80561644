"""`vared-mm COMMAND ...`: each file of tools/ as a command of its name.

With several processes: `torchrun --nproc_per_node=4 -m vared_mm.commands train CONFIG --launcher
pytorch`. `mim train|test|run vared_mm ...` calls the same files.
"""

from __future__ import annotations

import ast
import re
import sys
from difflib import get_close_matches
from pathlib import Path

from vared_mm.shipped import shipped

PROGRAM = "vared-mm"


def main() -> None:
    """What the console command calls."""
    name, *options = sys.argv[1:] or ["--help"]
    files = commands()
    if name in ("-h", "--help"):
        print(overview(files))
        return
    if name not in files:
        near = get_close_matches(name, files, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"{PROGRAM} --help lists all"
        raise SystemExit(f"error: {PROGRAM} has no command {name!r}; {hint}")
    sys.argv = [f"{PROGRAM} {name}", *options]
    # `runpy` would put the file in place of the name, which usage and errors tell.
    code = compile(files[name].read_text(encoding="utf-8"), files[name], "exec")
    exec(code, {"__name__": "__main__", "__file__": str(files[name])})


def commands() -> dict[str, Path]:
    """The file of each, by name."""
    tools = shipped("tools")
    files = sorted([*tools.glob("*.py"), *tools.glob("data/*.py")])
    doctor = Path(__file__).with_name("doctor.py")
    return {file.stem.replace("_", "-"): file for file in [*files, doctor]}


def overview(files: dict[str, Path]) -> str:
    told = [f"usage: {PROGRAM} COMMAND [options]; {PROGRAM} COMMAND --help tells them", ""]
    for name, file in files.items():
        line, example = summary(name, file.read_text(encoding="utf-8"))
        told += [f"{name:<20}{line}", f"{'':<20}$ {example}"]
    return "\n".join(told)


def summary(name: str, source: str) -> tuple[str, str]:
    """The first line of a command line's docstring, and the first example in it."""
    told = ast.get_docstring(ast.parse(source)) or ""
    # Longer ones go on where an indented one ends.
    example = re.search(rf"python tools/(?:data/)?{name.replace('-', '_')}\.py ?(.*)", told)
    options = example[1].removesuffix("\\").strip() if example else "--help"
    return told.partition("\n")[0], f"{PROGRAM} {name} {options}".strip()


if __name__ == "__main__":
    main()
