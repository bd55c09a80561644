"""What each choice of each dynamic convolution costs on this machine, in milliseconds.

MACs that are saved are not always time that is saved: a small convolution may take longer to
rebuild than to compute. The table tells where, for the layers as they run in a prepared model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from vared_mm.fast.forced_shares import single_paths
from vared_mm.fast.fused_conv import StaticConv
from vared_mm.fast.packed_conv import channels_last, residual
from vared_mm.fast.prepare import Exchanged
from vared_mm.method.gate import FollowerGate
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import dynamic_convs
from vared_mm.speed import wait_for_device


@dataclass(frozen=True)
class LayerLatency:
    """One convolution: alone, its gate, and for each choice the computing and rebuilding.

    A choice is (channels computed, temporal stride factor R), one path of each axis open.
    """

    name: str
    static_ms: float
    gate_ms: float
    choice_ms: dict[tuple[int, int], float]

    @property
    def best_saving_ms(self) -> float:
        """What the fastest choice saves against the plain convolution; the gate is paid always."""
        return self.static_ms - self.gate_ms - min(self.choice_ms.values())

    def as_json(self) -> dict[str, Any]:
        choices = [{"channels": k, "stride": r, "ms": ms} for (k, r), ms in self.choice_ms.items()]
        return {
            "name": self.name,
            "static_ms": self.static_ms,
            "gate_ms": self.gate_ms,
            "choices": choices,
            "best_saving_ms": self.best_saving_ms,
        }


def latency_table(
    prepared: nn.Module, run: Callable[[], object], repeats: int = 10
) -> list[LayerLatency]:
    """Times every dynamic convolution of a prepared model on the inputs that `run` brings it.

    Each number is the least of `repeats`: what else the machine does only adds.
    """
    convs = {
        name: conv
        for name, conv in dynamic_convs(prepared).items()
        if isinstance(conv.forward, Exchanged)
    }
    inputs: dict[str, tuple[Tensor, ...]] = {}
    handles = [
        conv.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args}))
        for name, conv in convs.items()
    ]
    try:
        with torch.no_grad():
            run()
            return [_latency(name, convs[name], args, repeats) for name, args in inputs.items()]
    finally:
        for handle in handles:
            handle.remove()


def gates_that_do_not_pay(table: list[LayerLatency]) -> list[str]:
    """The convolutions that no choice makes faster; best left out of the targets."""
    return [layer.name for layer in table if layer.best_saving_ms <= 0]


def _latency(name: str, conv: _Dynamic, inputs: tuple[Tensor, ...], repeats: int) -> LayerLatency:
    x = channels_last(inputs[0])
    other = residual(inputs[1], conv, x) if len(inputs) == 2 else None
    run = cast(Exchanged, conv.forward).run
    static = StaticConv(conv, run.epilogue)
    choices = {}
    for answer in single_paths(conv):
        pattern = tuple(v > 0 for v in answer)
        gates = torch.tensor(answer, device=x.device).repeat(len(x), 1)
        work = partial(run.branch(pattern), x, gates, other)
        choices[conv.extent(pattern)] = least_ms(work, repeats)
    follows = isinstance(conv.gate, FollowerGate)
    return LayerLatency(
        name,
        least_ms(partial(static, x, other), repeats),
        0.0 if follows else least_ms(partial(conv.gate, x), repeats),
        choices,
    )


def least_ms(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        wait_for_device()
        start = time.perf_counter()
        work()
        wait_for_device()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:])
