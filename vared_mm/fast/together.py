"""Kernels of a recorded pass that follow each other, as one step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vared_mm.fast.steps import CPU, Call, Make, Step
from vared_mm.kernels.series import Series, Told, serves


class Together(Step):
    """Kernels that follow each other, in one call, and the memory that is made for them.

    What they alone read and write is not a tensor: it lies in memory that is made for all of it,
    where what nobody reads any more was before.
    """

    def __init__(self, steps: Sequence[Make | Call]) -> None:
        ends = {number: i for i, step in enumerate(steps) for number in step.last}
        made = {s.number: (i, s) for i, s in enumerate(steps) if isinstance(s, Make)}
        own = {n: (i, ends[n], s.bytes) for n, (i, s) in made.items() if n in ends}
        offsets, self._bytes = packed_into(own)
        self._makes = [step for number, (_, step) in made.items() if number not in own]
        calls = [step for step in steps if isinstance(step, Call)]
        reads = dict.fromkeys(n for call in calls for n in call.reads if n not in own)
        bases = {number: 1 + i for i, number in enumerate(reads)}
        told = []
        for call in calls:
            places = [
                (slot, bases.get(number, 0), offsets.get(number, 0) + offset)
                for slot, number, offset in call.places
            ]
            told.append(Told(call.function, call.values, places))
        self._series, self._calls = Series(told), calls
        self.reads = list(reads)
        self.last = [number for number in ends if number not in own]

    def __call__(self, tensors: dict[int, Tensor]) -> None:
        for make in self._makes:
            make(tensors)
        memory = torch.empty(self._bytes, dtype=torch.uint8, device=CPU)
        bases = [memory.data_ptr(), *[tensors[number].data_ptr() for number in self.reads]]
        self._series(bases, torch.get_num_threads())


def packed_into(own: dict[int, tuple[int, int, int]]) -> tuple[dict[int, int], int]:
    """Offsets into one memory for what is there from one step to another and has so many bytes, and
    how many there are in all: each at the first place that is free for as long."""
    offsets: dict[int, int] = {}
    for number, (first, last, size) in own.items():
        taken = sorted(
            (offsets[other], own[other][2])
            for other in offsets
            if own[other][0] <= last and first <= own[other][1]
        )
        at = 0
        for begin, length in taken:
            if at + size <= begin:
                break
            at = max(at, begin + length)
        offsets[number] = at
    return offsets, max((offsets[n] + size for n, (_, _, size) in own.items()), default=0)


def together(steps: Sequence[Step]) -> list[Step]:
    """The same, with kernels that follow each other in one call."""
    result: list[Step] = []
    row: list[Make | Call] = []

    def end() -> None:
        calls = sum(isinstance(step, Call) for step in row)
        result.extend([Together(row)] if calls > 1 else row)
        row.clear()

    for step in steps:
        if isinstance(step, Make) or (isinstance(step, Call) and serves(step.function)):
            row.append(step)
        else:
            end()
            result.append(step)
    end()
    return result
