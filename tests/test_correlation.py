"""The correlation operator against a loop over every output, and what it costs."""

from itertools import product

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.models.correlation import correlation


def brute_force(x1, x2, weight, groups):
    n, c, frames, height, width = x1.shape
    x1, x2, weight = (tensor.numpy() for tensor in (x1, x2, weight))
    side, each = int(weight.shape[-1] ** 0.5), c // groups
    out = torch.zeros(n, groups * side**2, frames, height, width).double().numpy()
    places = product(*map(range, (n, c, frames, height, width, side, side)))
    for i, j, t, h, w, dy, dx in places:
        y, x = h + dy - side // 2, w + dx - side // 2
        if 0 <= y < height and 0 <= x < width:
            k = dy * side + dx
            term = weight[j, t, k] * x1[i, j, t, h, w] * x2[i, j, t, y, x]
            out[i, j // each * side**2 + k, t, h, w] += term / each
    return torch.from_numpy(out)


def inputs(side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 4, 2, 3, 4), (2, 4, 2, 3, 4), (4, 2, side**2)]
    return [
        torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes
    ]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("side", [1, 3, 7])
def test_it_is_the_sum_written_in_the_paper(side, groups):
    tensors = [tensor.detach() for tensor in inputs(side)]
    torch.testing.assert_close(correlation(*tensors, groups), brute_force(*tensors, groups))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_its_gradients_are_those_of_finite_differences(groups):
    assert torch.autograd.gradcheck(lambda *xs: correlation(*xs, groups), inputs(3), fast_mode=True)


def test_one_mac_for_each_pixel_channel_and_shift():
    with torch.device("meta"):
        clip, weight = torch.empty(2, 8, 3, 5, 6), torch.empty(8, 3, 49)
    with FlopCounterMode(display=False) as counter:
        out = correlation(clip, clip, weight, 4)
    assert out.shape == (2, 4 * 49, 3, 5, 6)
    assert counter.get_total_flops() / 2 == 2 * 8 * 3 * 5 * 6 * 49


def test_training_keeps_the_inputs_and_the_result_and_no_copy_per_shift():
    clip, weight = torch.randn(1, 4, 2, 8, 8, requires_grad=True), torch.ones(4, 2, 49)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        correlation(clip, clip, weight, 4)
    assert sum(kept) == 2 * clip.numel() + weight.numel()


class LargestTensor(TorchDispatchMode):
    """How many numbers the largest tensor has that any operator makes."""

    numbers = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not operator.is_view:
            self.numbers = max(self.numbers, out.numel())
        return out


@pytest.mark.parametrize("groups", [2, 4])
def test_its_gradient_makes_nothing_larger_than_the_padded_input(groups):
    clip, weight = torch.randn(1, 4, 2, 8, 8, requires_grad=True), torch.ones(4, 2, 49)
    out = correlation(clip, clip, weight.requires_grad_(), groups)
    gradient = torch.ones_like(out)
    with LargestTensor() as largest:
        out.backward(gradient)
    assert largest.numbers == 4 * 2 * 14 * 14


@pytest.mark.parametrize(
    ("shapes", "groups", "message"),
    [
        (((1, 4, 2, 3, 3), (1, 4, 2, 3, 4), (4, 2, 9)), 1, "wanted x1 and x2"),
        (((1, 4, 2, 3, 3), (1, 4, 2, 3, 3), (4, 3, 9)), 1, "wanted x1 and x2"),
        (((1, 4, 2, 3, 3), (1, 4, 2, 3, 3), (4, 2, 16)), 1, "16 shifts are no K² of an odd K"),
        (((1, 4, 2, 3, 3), (1, 4, 2, 3, 3), (4, 2, 9)), 3, "4 channels cannot form 3 groups"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, groups, message):
    with pytest.raises(ValueError, match=message):
        correlation(*map(torch.ones, shapes), groups)
