"""C++ functions, called by the names that their source gives the arguments."""

import ctypes

import pytest
import torch

from vared_mm.kernels.loading import Source, loaded

SOURCE = Source("sums", """
extern "C" long count(const long *numbers, long many, long threads) {
    long total = 0;
    for (long i = 0; i < many; i++) total += numbers[i];
    return total * 100 + threads;
}
extern "C" void add(const float *const *each, long many, const float *start, float *out,
                    double factor) {
    out[0] = start ? start[0] : 0;
    for (long i = 0; i < many; i++)
        if (each[i]) out[0] += factor * each[i][0];
}
""")  # fmt: skip


@pytest.fixture
def functions(_compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return loaded(SOURCE)


def test_integers_tensors_and_sequences_of_both_reach_c(functions):
    assert functions["count"](numbers=(1, 2, 3), many=3, threads=7) == 607
    out, one = torch.zeros(1), torch.tensor([2.0])
    functions["add"](each=[one, None, one], many=3, start=None, out=out, factor=1.5)
    assert out.item() == 6
    functions["add"](each=[], many=0, start=one, out=out, factor=1)
    assert out.item() == 2


def test_threads_are_torch_s_at_the_time_of_the_call(functions):
    bound = functions["count"].bind(numbers=[4], many=1)
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert bound() == 400 + threads
    finally:
        torch.set_num_threads(before)


def test_memory_that_is_bound_is_held_as_long(functions):
    bound = functions["add"].bind(each=[torch.full((1,), 5.0)], many=1, start=None, factor=1)
    out = torch.zeros(1)
    for _ in range(3):
        torch.full((1,), -1.0)
        bound(out=out)
        assert out.item() == 5


def test_a_wrong_name_and_a_missing_argument_are_refused(functions):
    with pytest.raises(KeyError, match="nombers"):
        functions["count"](nombers=(1,), many=1)
    with pytest.raises(ctypes.ArgumentError, match="argument 2"):
        functions["count"](numbers=(1,))
