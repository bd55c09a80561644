"""Options of command lines: files, settings of a config, numbers."""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from vared_mm.files import check_kept, new_file


class Parser(argparse.ArgumentParser):
    """One that knows a file that is there for a file, also where its name begins with a dash, and
    has no `new_file` that another option gives to be read, or to be written too."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words: Sequence[str] = sys.argv[1:] if args is None else args
        named = [f"./{w}" if w.startswith("-") and os.path.isfile(w) else w for w in words]
        told, rest = super().parse_known_args(named, namespace)
        self._check_kept(vars(told))
        return told, rest

    def _check_kept(self, told: Mapping[str, Any]) -> None:
        free = [action for action in self._actions if action.choices is None]
        names = [action.dest for action in free if action.type is new_file]
        given = [told.get(action.dest) for action in free if action.dest not in names]
        words = [word for one in given for word in (one if isinstance(one, list) else [one])]
        read = [word for word in words if isinstance(word, str | Path)]
        written = [told[name] for name in names if told.get(name)]
        try:
            for file in written:
                check_kept(read, file)
        except ValueError as error:
            self.error(str(error))
        if len({*map(os.path.realpath, written)}) < len(written):
            self.error(f"{written[0]} is to be written twice; name a file for each")


class KeyValues(DictAction):
    """mmengine's, which keeps the blanks within texts: paths may have them. Those after brackets
    and commas and before them are none of the texts'. What is there as a file or folder is one
    text, though its name has commas, brackets or quotes. Dicts are written as in a config."""

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        if re.search(r"[,()\[\]'\"]", val) and os.path.exists(val):
            return val
        if (value := with_dicts(val)) is not None:
            return value
        # No argument of a process has a NUL.
        kept = re.sub(r"(?<=[^ ,(\[]) +(?=[^ ,)\]])", lambda found: "\0" * len(found[0]), val)
        return with_blanks(DictAction._parse_iterable(kept))

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        try:
            super().__call__(parser, namespace, values, option)
        # Of what has no =, brackets without their others, and commas within brackets within a text.
        except (ValueError, AssertionError, RecursionError) as error:
            wanted = f"wanted KEY=VALUE ...; came {' '.join(values)!r}"
            raise argparse.ArgumentError(self, wanted) from error


class DictCalls(ast.NodeTransformer):
    """`dict(type='X')` as `{'type': 'X'}`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        named = all(word.arg for word in node.keywords)
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict" and named) or node.args:
            return node
        keys: list[ast.expr | None] = [ast.Constant(word.arg) for word in node.keywords]
        return ast.Dict(keys, [word.value for word in node.keywords])


def with_dicts(text: str) -> Any:
    """The value of a dict, or of a list of such; None of any other text."""
    if not re.search(r"\bdict\(|[{]", text):
        return None
    try:
        value = ast.literal_eval(DictCalls().visit(ast.parse(text, mode="eval")))
    # Of texts that only look so, as regular expressions.
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return None
    return value if isinstance(value, dict | list | tuple) else None


def with_blanks(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", " ")
        case list() | tuple():
            return type(value)(map(with_blanks, value))
    return value


def run_parser(description: str) -> argparse.ArgumentParser:
    """The options that training and test share."""
    parser = Parser(description)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="for logs, checkpoints and results")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=KeyValues,
        help="settings to override, KEY=VALUE; lists as KEY=a,b or KEY='[(a,b),(c,d)]', dicts as "
        "KEY='[dict(type=\"X\")]'",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)
    parser.add_argument("--seed", type=int, help="random seed")
    return parser


def positive(text: str) -> int:
    """The type of options that count something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 on; came {text!r}")
    return int(text)


def make_as_told(make: Callable[[str, Any], Path], default: Any, doc: str | None) -> None:
    """A command line over `make(folder, config)`, an option for each field of the config.

    Args:
        default: A dataclass of numbers, or of names in a tuple.
    """
    parser = Parser(doc)
    example = Path("data", make.__name__.removeprefix("make_"))
    parser.add_argument("out", help=f"folder to create, e.g. {example}")
    for name, value in asdict(default).items():
        several = isinstance(value, (tuple, list))
        kind: dict[str, Any] = {"nargs": "+", "metavar": "NAME"} if several else {"metavar": "N"}
        kind["help"] = f"default: {' '.join(value) if several else value}"
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=str if several else int, default=value, **kind)
    options = vars(parser.parse_args())
    print(make(options.pop("out"), type(default)(**options)))
