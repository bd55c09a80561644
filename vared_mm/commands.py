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
from types import CodeType

from vared_mm import __version__
from vared_mm.shipped import shipped

PROGRAM = "vared-mm"


def main() -> None:
    """What the console command calls."""
    name, *options = sys.argv[1:] or ["--help"]
    files = commands()
    if name in ("-h", "--help"):
        print(overview(files))
        return
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return
    if name not in files:
        near = get_close_matches(name, files, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"{PROGRAM} --help lists all"
        raise SystemExit(f"error: {PROGRAM} has no command {name!r}; {hint}")
    sys.argv = [f"{PROGRAM} {name}", *options]
    # `runpy` would put the file in place of the name, which usage and errors tell.
    exec(code_of(files[name]), {"__name__": "__main__", "__file__": str(files[name])})


def code_of(file: Path) -> CodeType:
    """With the docstring, which is its help, as the command's user has it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    match tree.body[0]:
        case ast.Expr(ast.Constant(str() as told) as docstring):
            docstring.value = as_command(told)
    return compile(tree, file, "exec")


def as_command(text: str) -> str:
    """With `vared-mm NAME` for each file of tools/, of which a wheel's user has no folder."""
    files = r"(?:python )?tools/(?:data/)?(\w+)\.py|python -m vared_mm\.(doctor)"
    return re.sub(files, lambda found: f"{PROGRAM} {name_of(found[1] or found[2])}", text)


def name_of(stem: str) -> str:
    return stem.replace("_", "-")


def commands() -> dict[str, Path]:
    """The file of each, by name."""
    tools = shipped("tools")
    files = sorted([*tools.glob("*.py"), *tools.glob("data/*.py")])
    doctor = Path(__file__).with_name("doctor.py")
    return {name_of(file.stem): file for file in [*files, doctor]}


def overview(files: dict[str, Path]) -> str:
    told = [f"usage: {PROGRAM} COMMAND [options]; {PROGRAM} COMMAND --help tells them", ""]
    for name, file in files.items():
        line, example = summary(name, file.read_text(encoding="utf-8"))
        told += [f"{name:<20}{line}", f"{'':<20}$ {example}"]
    return "\n".join(told)


def summary(name: str, source: str) -> tuple[str, str]:
    """The first line of a command line's docstring, and the first example in it."""
    told = as_command(ast.get_docstring(ast.parse(source)) or "")
    example = re.search(rf"^ *({PROGRAM} {name}(?: .*)?)$", told, re.MULTILINE)
    # Longer ones go on where an indented one ends.
    call = example[1].removesuffix("\\").strip() if example else f"{PROGRAM} {name} --help"
    return told.partition("\n")[0], call


if __name__ == "__main__":
    main()
