"""Each kind of convolution of a static network, as we compute it and as OpenVINO does.

Where the whole takes longer than elsewhere, this tells why. OpenVINO's come first and ours after
them, in one process: whole networks are compared by `benchmark`.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vared_mm.fast.engines import Network, compiled_openvino, prepared
from vared_mm.fast.expansion import Expansion
from vared_mm.fast.prepare import Exchanged, Traced


class Kind(NamedTuple):
    """Convolutions of one weight (F, C / groups, [kT,] kH, kW) and output ([T,] H, W)."""

    weight: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Of one sample."""
        return math.prod(self.weight) * math.prod(self.size)

    def __str__(self) -> str:
        (filters, inputs, *kernel), by = self.weight, "x".join
        return f"{inputs} to {filters}, {by(map(str, kernel))}, {by(map(str, self.size))}"


# Kinds, more than one where a kernel computes them together, to milliseconds of a pass.
Times = Mapping[tuple[Kind, ...], float]


class LayerRow(NamedTuple):
    """Some kinds of convolutions, all of them in a network.

    Args:
        convolutions: How many there are.
        macs: Of all, and of all samples.
        ours, openvino: Milliseconds, medians over passes.
        ms_at_peak: What they would take at the MACs per second of a large product of matrices.
    """

    kinds: list[str]
    convolutions: int
    macs: float
    ours: float
    openvino: float
    ms_at_peak: float


@torch.no_grad()
def layers_beside(twin: Network, inputs: Tensor, repeats: int) -> list[LayerRow]:
    """The kinds that take us most time first.

    Args:
        twin: A static network, in evaluation, on the CPU.
    """
    theirs = openvino_times(twin, inputs, repeats)
    peak, (ours, counts) = peak_macs(), our_times(prepared(twin, inputs), inputs, repeats)
    rows = []
    for group in joined(ours):
        macs = len(inputs) * sum(kind.macs * counts[kind] for kind in group)
        own = sum(ms for kinds, ms in ours.items() if kinds[0] in group)
        other = sum(ms for (kind,), ms in theirs.items() if kind in group)
        count, names = sum(counts[kind] for kind in group), sorted(map(str, group))
        rows.append(LayerRow(names, count, macs, own, other, 1000 * macs / peak))
    return sorted(rows, key=lambda row: -row.ours)


def our_times(network: nn.Module, inputs: Tensor, repeats: int) -> tuple[Times, Counter[Kind]]:
    """Milliseconds, and how many convolutions there are of each kind."""
    convs = [m for m in network.modules() if isinstance(m.forward, Exchanged)]
    sizes: dict[nn.Module, Kind] = {}
    looks = [
        conv.register_forward_hook(
            lambda conv, _, out: sizes.update({conv: Kind((*conv.weight.shape,), out.shape[2:])})
        )
        for conv in convs
    ]
    network(inputs)  # Unfused, as somebody looks.
    for look in looks:
        look.remove()
    traced = [m.forward for m in network.modules() if isinstance(m.forward, Traced)]
    for part in traced:
        # A recorded pass would call kernels alone.
        part.is_repeatable = False
    pairs = [m for part in traced for m in part.graph.modules() if isinstance(m, Expansion)]
    clocks = [Clock(conv.forward, "run", (conv,)) for conv in convs]
    clocks += [Clock(pair, "forward", pair.convs) for pair in pairs]
    passes: dict[tuple[Kind, ...], list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        network(inputs)
        spent: dict[tuple[Kind, ...], float] = defaultdict(float)
        for clock in clocks:
            if milliseconds := clock.read():
                spent[tuple(sizes[conv] for conv in clock.convs)] += milliseconds
        for kinds, milliseconds in spent.items():
            passes[kinds].append(milliseconds)
    # The first lays out weights.
    return {kinds: median(of[1:]) for kinds, of in passes.items()}, Counter(sizes.values())


class Clock:
    """Counts the time of what an attribute calls."""

    def __init__(self, holder: Any, name: str, convs: Sequence[nn.Module]) -> None:
        self.convs, self.seconds, run = convs, 0.0, getattr(holder, name)

        def timed(*inputs: Any) -> Any:
            start = time.perf_counter()
            answer = run(*inputs)
            self.seconds += time.perf_counter() - start
            return answer

        setattr(holder, name, timed)

    def read(self) -> float:
        """Milliseconds since the last time."""
        seconds, self.seconds = self.seconds, 0.0
        return 1000 * seconds


def openvino_times(network: nn.Module, inputs: Tensor, repeats: int) -> Times:
    """Of the plugin's own clocks."""
    compiled = compiled_openvino(network, inputs, "f32", PERF_COUNT=True)
    request = compiled.create_infer_request()
    passes: dict[tuple[Kind, ...], list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        request.infer([inputs.numpy()])
        spent: dict[tuple[Kind, ...], float] = defaultdict(float)
        for kind, microseconds in executed(compiled.get_runtime_model().get_ordered_ops()):
            spent[kind,] += microseconds / 1000
        for kinds, milliseconds in spent.items():
            passes[kinds].append(milliseconds)
    return {kinds: median(of[1:]) for kinds, of in passes.items()}


def executed(operations: Iterable[Any]) -> Iterator[tuple[Kind, float]]:
    """The convolutions of a pass, and their microseconds."""
    for operation in operations:
        told = operation.get_rt_info()
        if told["layerType"].astype(str) == "Convolution":
            weight = tuple(operation.input(1).get_shape())
            out = tuple(operation.output(0).get_shape())
            if len(weight) > len(out):  # By groups.
                weight = (weight[0] * weight[1], *weight[2:])
            yield Kind(weight, out[2:]), float(told["execTimeMcs"].astype(str))


def joined(times: Times) -> list[set[Kind]]:
    """Kinds that some kernel computes together are told together."""
    groups: list[set[Kind]] = []
    for kinds in times:
        meets = [group for group in groups if group & set(kinds)]
        groups = [group for group in groups if group not in meets]
        groups.append(set(kinds).union(*meets))
    return groups


def peak_macs(size: int = 1024, repeats: int = 5) -> float:
    """Per second, of a product of two square matrices."""
    a, best = torch.ones(size, size), float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return size**3 / best
