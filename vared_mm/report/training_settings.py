"""How a model was trained, as its checkpoint tells it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

# Of a config, what a training learns by. Seeds of one model have it alike.
LEARNED_BY = (
    "model", "train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler", "custom_hooks",
    "auto_scale_lr",
)  # fmt: skip
WORKERS = ("num_workers", "persistent_workers", "pin_memory", "prefetch_factor")
Setting = str | int | float | bool | None


def training_of(meta: Mapping[str, Any]) -> dict[str, Setting] | None:
    """The settings by their names, as `custom_hooks.0.target`, from the config in a checkpoint's
    meta. Left out are places of files, which differ from machine to machine, and what fetches
    data. None where it tells no config.
    """
    text = meta.get("cfg")
    if not isinstance(text, str):
        return None
    settings: dict[str, Setting] = {}
    with suppress(SyntaxError, ValueError):
        for line in ast.parse(text).body:
            match line:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in LEARNED_BY:
                    settings |= flat(name, value)
    return settings or None


def flat(name: str, node: ast.expr) -> Iterator[tuple[str, Setting]]:
    """Settings in an expression as mmengine writes configs. Nothing of it is run: a checkpoint may
    come from anywhere."""
    parts: Iterable[tuple[Any, ast.expr]]
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words):
            parts = [(word.arg, word.value) for word in words]
        # Of names that Python would not take.
        case (
            ast.Call(
                func=ast.Name(id="dict"), args=[ast.Dict(keys=keys, values=values)], keywords=[]
            )
            | ast.Dict(keys=keys, values=values)
        ):
            parts = zip(map(spelled, keys), values, strict=True)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            parts = enumerate(elements)
        case _:
            value = spelled(node)
            if "/" not in str(value):
                yield name, value
            return
    for key, part in parts:
        if key not in WORKERS:
            yield from flat(f"{name}.{key}", part)


def spelled(node: ast.expr | None) -> Setting:
    """What the expression says, or its text."""
    if node is None:
        return "**"
    with suppress(ValueError):
        value = ast.literal_eval(node)
        return value if isinstance(value, Setting) else str(value)
    return ast.unparse(node)


def told_apart(trainings: Sequence[Mapping[str, Setting] | None]) -> list[str]:
    """For each training the settings in which they differ, one text for those that are alike. One
    that tells none is taken for the others' where these are alike."""
    known = [training for training in trainings if training]
    names = sorted({name for one in known for name in one})
    differ = [n for n in names if any(one.get(n) != known[0].get(n) for one in known)]
    return [
        " ".join(f"{n}={one.get(n)}" for n in differ) if one else "unknown" * bool(differ)
        for one in trainings
    ]
