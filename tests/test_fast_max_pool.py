"""The pooling kernel against torch's own pooling."""

import pytest
import torch
from torch import nn

from vared_mm.fast.max_pool import MaxPool, is_plain_pool

CHANNELS_LAST = torch.channels_last_3d


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (dict(kernel_size=3, stride=1, padding=1), (5, 6, 7)),
        (dict(kernel_size=3, stride=2, padding=1), (1, 5, 8)),
        (dict(kernel_size=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)), (3, 7, 4)),
        (dict(kernel_size=2), (4, 5, 2)),
    ],
    ids=["beside a branch", "between stages", "space alone", "no padding"],
)
@pytest.mark.parametrize("channels", [7, 19, 83])
@pytest.mark.usefixtures("_compiler")
def test_it_is_torchs_pooling(settings, size, channels):
    torch.manual_seed(0)
    pool = nn.MaxPool3d(**settings)
    x = torch.randn(2, channels, *size).contiguous(memory_format=CHANNELS_LAST)
    x[0, 3, 0, 1, 1], x[0, -1, 0, 2, 1], x[1, 5] = float("nan"), -float("nan"), -float("inf")
    came = MaxPool(pool)(x)
    assert came.is_contiguous(memory_format=CHANNELS_LAST)
    torch.testing.assert_close(came, pool(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_precisions_and_layouts_are_left_to_torch(dtype):
    pool = nn.MaxPool3d(3, 1, 1)
    x = torch.randn(2, 4, 3, 3, 3, dtype=dtype)
    assert torch.equal(MaxPool(pool)(x), pool(x))


def test_what_torch_refuses_or_differentiates_is_left_to_torch():
    pool = nn.MaxPool3d(2)
    x = torch.randn(1, 3, 1, 4, 4).contiguous(memory_format=CHANNELS_LAST)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        MaxPool(pool)(x)
    x = torch.arange(8.0).view(1, 1, 2, 2, 2).requires_grad_()
    MaxPool(pool)(x).backward()
    assert x.grad.flatten().tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "settings", [dict(dilation=2), dict(return_indices=True), dict(ceil_mode=True)]
)
def test_what_it_does_not_do_is_not_exchanged(settings):
    assert is_plain_pool(nn.MaxPool3d(3))
    assert not is_plain_pool(nn.MaxPool3d(3, **settings))
    assert not is_plain_pool(nn.MaxPool2d(3))
