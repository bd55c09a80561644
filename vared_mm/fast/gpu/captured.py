"""A network whose whole forward is replayed from a CUDA graph: one launch instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

# Before the capture, so that kernels are chosen and compiled, and libraries have their memory.
WARM_UP = 3


class Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    answer: Any


class Captured:
    """`run(x)`, recorded once for each shape, type and layout of x; for prepared models on a GPU.

    `run` must not ask the device anything, and is recorded as it behaves at the first call: hooks,
    forced gates and changed weights are not seen afterwards; make another one then. Each recording
    keeps memory for all maps in between. One thread at a time.
    """

    def __init__(self, run: Callable[[Tensor], Any]) -> None:
        self.run = run
        self._recordings: dict[tuple, Recording] = {}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Any:
        if not x.is_cuda:
            raise ValueError(
                f"a CUDA graph takes inputs on a CUDA device; came one on {x.device}. "
                "Call the network itself there"
            )
        key = (x.shape, x.stride(), x.dtype, x.device)
        if key not in self._recordings:
            self._recordings[key] = record(self.run, x)
        graph, inputs, answer = self._recordings[key]
        inputs.copy_(x)
        graph.replay()
        # The next replay writes over the answer.
        return tree_map_only(Tensor, torch.clone, answer)


def record(run: Callable[[Tensor], Any], x: Tensor) -> Recording:
    with torch.cuda.device(x.device):
        inputs, stream = x.clone(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                # A copy, which the network may overwrite.
                run(inputs.clone())
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = run(inputs.clone())
    return Recording(graph, inputs, answer)
