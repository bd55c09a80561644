"""What each choice of each dynamic convolution costs on this machine, in milliseconds.

MACs that are saved are not always time that is saved: a small convolution may take longer to
rebuild than to compute. The table tells where, for the layers as they run in a prepared model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from vared_mm.fast.forced_shares import single_paths
from vared_mm.fast.fused_conv import StaticConv
from vared_mm.fast.packed_conv import as_channels_last, residual
from vared_mm.fast.precision import as_maps
from vared_mm.fast.prepare import Exchanged
from vared_mm.fast.recorded import Recorded
from vared_mm.latency_table import LayerLatency
from vared_mm.method.gate import FollowerGate
from vared_mm.method.layer import Pattern, _Dynamic
from vared_mm.method.observe import dynamic_convs
from vared_mm.speed import wait_for_device

Work = Callable[[], object]


def latency_table(prepared: nn.Module, run: Work, repeats: int = 10) -> list[LayerLatency]:
    """Times every dynamic convolution of a prepared model on the inputs that `run` brings it.

    Each number is the least of `repeats`: what else the machine does only adds. Of a convolution
    that runs several times, the last counts.
    """
    convs = dynamic_convs(prepared)
    names: dict[nn.Module, str] = {conv.gate: name for name, conv in convs.items()}
    inputs: dict[str, tuple[Tensor, ...]] = {}

    def note(name: str, conv: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[name] = args

    with ExitStack() as stack, torch.no_grad():
        for name, conv in convs.items():
            stack.enter_context(conv.register_forward_pre_hook(partial(note, name)))
        run()
        return [
            _latency(name, convs[name], _leader(convs[name], names), args, repeats)
            for name, args in inputs.items()
        ]


def _leader(conv: _Dynamic, names: Mapping[nn.Module, str]) -> str | None:
    return names[conv.gate.leader] if isinstance(conv.gate, FollowerGate) else None


def _latency(
    name: str, conv: _Dynamic, leader: str | None, inputs: Sequence[Tensor], repeats: int
) -> LayerLatency:
    x, plain, choose = _ways_to_run(conv, inputs)
    choices = {}
    for answer in single_paths(conv):
        pattern = tuple(v > 0 for v in answer)
        gates = torch.tensor(answer, device=x.device).repeat(len(x), 1)
        choices[conv.extent(pattern)] = least_ms(choose(pattern, gates), repeats)
    gate_ms = 0.0 if leader else least_ms(partial(conv.gate, x), repeats)
    return LayerLatency(name, least_ms(plain, repeats), gate_ms, choices, leader)


def _ways_to_run(
    conv: _Dynamic, inputs: Sequence[Tensor]
) -> tuple[Tensor, Work, Callable[[Pattern, Tensor], Work]]:
    """The input as the prepared model lays it out, the plain convolution, and one per choice."""
    if not isinstance(conv.forward, Exchanged):
        # The preparation could not take it over: it runs as in the model.
        x = inputs[0]
        return (
            x,
            partial(conv.plain, x),
            lambda pattern, gates: partial(conv._run, x, gates.to(x), pattern),
        )
    # The hook that kept them made the network run unfused, in the precision of its weights.
    maps = conv.forward.maps
    x, *others = (as_maps(maps, each) for each in inputs)
    x, run = as_channels_last(x), conv.forward.run
    other = residual(others[0], conv, x) if others else None
    static = StaticConv(conv, run.epilogue, maps)

    # As in a pass that is repeated.
    def choose(pattern: Pattern, gates: Tensor) -> Work:
        branch = run.branch(pattern)
        return partial(Recorded(lambda x: branch(x, gates, other)), x)

    return x, partial(Recorded(lambda x: static(x, other)), x), choose


def least_ms(work: Work, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        wait_for_device()
        start = time.perf_counter()
        work()
        wait_for_device()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:])
