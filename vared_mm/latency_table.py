"""How long each choice of each dynamic convolution takes, as it was measured on one machine.

`tools/benchmark.py CONFIG --layers --json FILE` measures and writes it, once for each batch size.
A choice is (channels computed, temporal stride factor R), one path of each axis open.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.method.cost import Grid
from vared_mm.method.errors import DynamicError
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import dynamic_convs

# Of what a layer's row in the file holds.
VERSION = 1
MEASURE = "measure with vared-mm benchmark CONFIG --layers --json FILE"


@dataclass(frozen=True)
class LayerLatency:
    """One convolution: alone, its gate, and for each choice the computing and rebuilding.

    `leader` names the convolution whose gate it follows, within a block that shares one.
    """

    name: str
    static_ms: float
    gate_ms: float
    choice_ms: dict[tuple[int, int], float]
    leader: str | None = None

    def __post_init__(self) -> None:
        times = [self.static_ms, *self.choice_ms.values()]
        if not all(0 < ms < math.inf for ms in times) or not 0 <= self.gate_ms < math.inf:
            raise DynamicError(
                f"{self.name} has times of {times} ms and {self.gate_ms} ms; wanted positive ones"
            )

    @property
    def best_saving_ms(self) -> float:
        """What the fastest choice saves against the plain convolution; the gate is paid always."""
        return self.static_ms - self.gate_ms - min(self.choice_ms.values())

    def as_json(self) -> dict[str, Any]:
        choices = [{"channels": k, "stride": r, "ms": ms} for (k, r), ms in self.choice_ms.items()]
        return {
            "version": VERSION,
            "name": self.name,
            "leader": self.leader,
            "static_ms": self.static_ms,
            "gate_ms": self.gate_ms,
            "choices": choices,
            "best_saving_ms": self.best_saving_ms,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> LayerLatency:
        if row.get("version") != VERSION:
            raise DynamicError(f"it is of version {row.get('version')}, wanted {VERSION}")
        choices = {(c["channels"], c["stride"]): c["ms"] for c in row["choices"]}
        return cls(row["name"], row["static_ms"], row["gate_ms"], choices, row["leader"])


def read_table(path: str | Path, batch: int) -> list[LayerLatency]:
    """The layers as measured at one batch size.

    Raises:
        DynamicError: There is no such file, or it holds no table of this version and batch size.
    """
    try:
        tables = json.loads(Path(path).read_text())["layers"]
    except FileNotFoundError:
        raise DynamicError(f"there is no latency table {path}; {MEASURE}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise DynamicError(f"{path} is no latency table ({error!r}); {MEASURE}") from error
    if not tables:
        raise DynamicError(f"{path} was written without --layers; {MEASURE}")
    if str(batch) not in tables:
        raise DynamicError(
            f"{path} was measured at batch size {', '.join(tables)}; wanted {batch}: choose one of "
            f"those, or measure with --batch {batch}"
        )
    if not tables[str(batch)]:
        raise DynamicError(
            f"{path} was measured of a network without dynamic convolutions; {MEASURE} of the "
            "dynamic one"
        )
    try:
        return [LayerLatency.from_json(row) for row in tables[str(batch)]]
    except (DynamicError, LookupError, TypeError, AttributeError) as error:
        raise DynamicError(f"{path} cannot be used as latency table: {error}; {MEASURE}") from error


def grids_for(model: nn.Module, table: Sequence[LayerLatency]) -> dict[str, Grid]:
    """The milliseconds of each dynamic convolution of the model.

    The table may hold more of the model's convolutions, which were left out since it was measured.

    Raises:
        DynamicError: The table is of another model, or of other settings of its convolutions.
    """
    layers, convs, modules = {t.name: t for t in table}, dynamic_convs(model), model.named_modules()
    plain = {name for name, module in modules if isinstance(module, _ConvNd)}
    if lacking := [name for name in convs if name not in layers]:
        raise DynamicError(
            f"the latency table has no times of {_some(lacking)}, which {type(model).__name__} "
            f"makes dynamic, but of {_some(list(layers))}; {MEASURE}"
        )
    if unknown := [name for name in layers if name not in plain]:
        raise DynamicError(
            f"the latency table is of another model: it tells of {_some(unknown)}, and "
            f"{type(model).__name__} has no convolution of that name; {MEASURE}"
        )
    return {name: _grid(conv, layers[name]) for name, conv in convs.items()}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(map(repr, names[:2])) + more


def _grid(conv: _Dynamic, layer: LayerLatency) -> Grid:
    wanted = list(product(conv.widths, conv.strides))
    if set(wanted) != set(layer.choice_ms):
        raise DynamicError(
            f"{layer.name} chooses among (channels, R) {wanted}, and the latency table has "
            f"{list(layer.choice_ms)}, as of another search_space, axes or width; {MEASURE}"
        )
    return tuple(tuple(layer.choice_ms[k, r] for r in conv.strides) for k in conv.widths)


def gates_that_do_not_pay(table: Sequence[LayerLatency]) -> list[str]:
    """The convolutions whose gate costs more than its best choice saves; a block's stand together.

    They are best left out before training: `DynamicConfig.exclude`.
    """
    together: dict[str, list[LayerLatency]] = defaultdict(list)
    for layer in table:
        together[layer.leader or layer.name].append(layer)
    return [
        layer.name for layers in together.values() if _saving_ms(layers) <= 0 for layer in layers
    ]


def _saving_ms(layers: Sequence[LayerLatency]) -> float:
    """What the best choice of one gate saves in the convolutions that follow it."""
    choices = zip(*(layer.choice_ms.values() for layer in layers), strict=True)
    plain = sum(layer.static_ms - layer.gate_ms for layer in layers)
    return plain - min(map(sum, choices))
