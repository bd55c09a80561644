"""Kernels of a repeated pass that follow each other are one call."""

import pytest
import torch
from conftest import SOURCES
from hypothesis import given
from hypothesis import strategies as st
from test_fast_recorded import made
from torch import nn

from vared_mm.fast import paths, prepare_for_inference, together
from vared_mm.kernels import loading, series
from vared_mm.method.observe import forced_gates


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_it_follows_the_number_of_threads(monkeypatch):
    net, x = nn.Sequential(nn.Conv3d(3, 16, 1), nn.MaxPool3d(3, 1, 1)), torch.rand(1, 3, 3, 5, 5)
    prepared = prepare_for_inference(net.eval(), x, precision="float32")
    before, told, call = torch.get_num_threads(), [], series.Series.__call__

    def counted(self, bases, threads):
        told.append(threads)
        call(self, bases, threads)

    monkeypatch.setattr(series.Series, "__call__", counted)
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            prepared(x)
    finally:
        torch.set_num_threads(before)
    assert told == [1, 2, 1]


def ways_of(path):
    """All paths from here on."""
    return [path, *[one for rest in path.after.values() for one in ways_of(rest)]]


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.no_grad()
def test_kernels_that_follow_each_other_are_one_call_and_answer_alike(precision, monkeypatch):
    _, prepared, x = made(precision=precision)
    empty, memories = torch.empty, []

    def broken(size, **how):
        memories.append(size)
        return empty(size, **how).fill_(255)  # NaN, of which nothing is read

    for row in ((1, 0, 1, 0), (0, 1, 0, 1), (1, 0, 0, 1), (0.5, 0.5, 0.5, 0.5)):
        with forced_gates(prepared, row):
            prepared(x)
            with monkeypatch.context() as patch:
                patch.setattr(paths.Path, "quick", property(lambda path: path.steps))
                expected = prepared(x)
            with monkeypatch.context() as patch:
                patch.setattr(together.torch, "empty", broken)
                came = prepared(x)
        assert all(map(torch.equal, came, expected))
    assert max(memories) > 0
    every = ways_of(next(iter(prepared.forward.recorded._first.values())))
    assert any(isinstance(s, together.Together) for path in every for s in path.quick)
    assert sum(len(path.quick) for path in every) < sum(len(path.steps) for path in every)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 4)), max_size=12))
def test_what_is_there_at_once_lies_apart(spans):
    own = {i: (first, first + more, 64 * lines) for i, (first, more, lines) in enumerate(spans)}
    offsets, size = together.packed_into(own)
    at_once = 0
    for step in range(15):
        there = sorted((offsets[n], s) for n, (a, b, s) in own.items() if a <= step <= b and s)
        ends = [begin + length for begin, length in there]
        assert all(end <= begin for end, (begin, _) in zip(ends, there[1:], strict=False))
        at_once = max(at_once, sum(length for _, length in there))
        assert max(ends, default=0) <= size
    assert at_once <= size <= sum(length for _, _, length in own.values())


@pytest.mark.usefixtures("_compiler")
def test_a_kernel_that_takes_what_is_no_integer_is_called_by_itself():
    functions = {name: f for source in SOURCES for name, f in loading.loaded(source).items()}
    alone = {name for name, function in functions.items() if not series.serves(function)}
    assert alone == {"decide"}
