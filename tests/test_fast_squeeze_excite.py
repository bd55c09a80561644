"""Squeeze and excitation by the kernel, and where the graph has it."""

import pytest
import torch
import torch.nn.functional as F
from test_fast_convolutions import error
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.fast.squeeze_excite import SqueezeExcite
from vared_mm.kernels.squeeze_excite import swish

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Excited(nn.Module):
    """As in X3D: what a convolution makes, excited, with or without Swish."""

    def __init__(self, channels=38, swish=True, dims=3):
        super().__init__()
        conv, pool = (
            (nn.Conv3d, nn.AdaptiveAvgPool3d) if dims == 3 else (nn.Conv2d, nn.AdaptiveAvgPool2d)
        )
        self.conv, self.pool = conv(3, channels, 1), pool(1)
        self.fc1, self.relu = conv(channels, 8, 1), nn.ReLU()
        self.fc2, self.sigmoid = conv(8, channels, 1), nn.Sigmoid()
        self.swish = swish

    def forward(self, x):
        x = self.conv(x)
        x = x * self.sigmoid(self.fc2(self.relu(self.fc1(self.pool(x)))))
        return x * torch.sigmoid(x) if self.swish else x


def excitations(prepared):
    graph = prepared.forward.graph
    modules = dict(graph.named_modules())
    calls = [modules.get(str(node.target)) for node in graph.graph.nodes]
    return [call for call in calls if isinstance(call, SqueezeExcite)]


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("maps", [torch.float32, torch.bfloat16], ids=str)
def test_swish_alone_is_that_of_torch(maps):
    torch.manual_seed(0)
    for shape in ((0,), (1,), (7,), (16,), (1003,), (2, 5, 3, 4), (2, 3, 2, 5, 4)):
        x = (20 * torch.randn(shape)).to(maps)
        if len(shape) > 3:
            x = x.contiguous(memory_format=LAYOUTS[len(shape)])
        expected, kept = F.silu(x.double()), x.clone()
        came = swish(x)
        assert came.stride() == x.stride()
        assert torch.equal(x, kept)
        apart = (came - expected).abs() / expected.abs().clamp(min=1)
        assert apart.numel() == 0 or apart.max() < (1e-6 if maps == torch.float32 else 2**-8)
        assert swish(x, True).data_ptr() == x.data_ptr()
        assert torch.equal(x, came)
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, -200.0, 0.0], dtype=maps)
    assert torch.equal(swish(odd).nan_to_num(5), F.silu(odd).nan_to_num(5))
    # Not as it lies in memory, of another type, and with a gradient.
    wide = torch.randn(4, 6)
    assert torch.allclose(swish(wide[:, ::2]), F.silu(wide[:, ::2]))
    assert torch.equal(swish(wide.double()), F.silu(wide.double()))
    assert swish(wide.requires_grad_()).grad_fn is not None


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("swish", [True, False])
@pytest.mark.parametrize("channels", [16, 38, 7])
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 6), (9, 7)])
@torch.no_grad()
def test_each_sample_is_excited_by_its_own_mean(size, channels, swish):
    torch.manual_seed(0)
    model = Excited(channels, swish, len(size)).eval()
    x = torch.randn(3, 3, *size) * torch.tensor([0.1, 1, 30]).view(-1, *[1] * (len(size) + 1))
    expected = model.double()(x.double())
    prepared = prepare_for_inference(model.float(), x)
    assert len(excitations(prepared)) == 1
    for sample in range(3):
        assert error(prepared(x)[sample], expected[sample]) < 1e-5


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_swish_holds_for_large_numbers_zero_and_nan():
    model = Excited(16).eval()
    for weight in model.parameters():
        nn.init.zeros_(weight)
    # An excitation by exactly a half.
    values = torch.tensor([-1e30, -400.0, -40.0, -1e-3, 0.0, 1e-3, 40.0, 400.0, 1e30, float("nan")])
    (excite,) = excitations(prepare_for_inference(model, torch.ones(1, 3, 1, 2, 2)))
    for value in values:
        x = torch.full((1, 16, 1, 2, 2), float(value)).contiguous(memory_format=LAYOUTS[5])
        half = x.double() / 2
        # Only the infinitely small differs.
        torch.testing.assert_close(
            excite(x).double(), half * half.sigmoid(), rtol=1e-6, atol=1e-9, equal_nan=True
        )


class Row(nn.Module):
    """Three after each other."""

    def __init__(self):
        super().__init__()
        self.all = nn.Sequential(Excited(), Excited(), Excited())
        self.all[1].conv = self.all[2].conv = nn.Identity()

    def forward(self, x):
        for each in self.all[:3]:
            x = each(x)
        return x


@torch.no_grad()
def test_one_may_read_what_another_answers():
    torch.manual_seed(0)
    model, x = Row().eval(), torch.randn(2, 3, 3, 5, 6)
    prepared = prepare_for_inference(model, x, precision="float32")
    assert error(prepared(x), model.double()(x.double())) < 1e-5


@pytest.mark.usefixtures("_by")
@torch.no_grad()
def test_maps_of_other_channels_are_refused():
    (excite,) = excitations(prepare_for_inference(Excited(38).eval(), torch.ones(1, 3, 1, 2, 2)))
    with pytest.raises(
        ValueError, match=r"takes a batch \(N, 38, T, H, W\); came \(1, 37, 1, 1, 1\)"
    ):
        excite(torch.ones(1, 37, 1, 2, 2).contiguous(memory_format=LAYOUTS[5]))


class Overwritten(Excited):
    def forward(self, x):
        x = self.conv(x)
        gate = self.pool(x)
        x.add_(1)
        return x * self.sigmoid(self.fc2(self.relu(self.fc1(gate))))


class ReadElsewhere(Excited):
    def forward(self, x):
        x = self.conv(x)
        gate = self.sigmoid(self.fc2(self.relu(self.fc1(self.pool(x)))))
        return x * gate + gate


class WithoutRelu(Excited):
    def forward(self, x):
        x = self.conv(x)
        return x * self.sigmoid(self.fc2(self.fc1(self.pool(x))))


@pytest.mark.parametrize("kind", [Overwritten, ReadElsewhere, WithoutRelu])
@torch.no_grad()
def test_what_is_no_squeeze_and_excitation_stays_as_it_is(kind):
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(2, 3, 2, 4, 4)
    prepared = prepare_for_inference(model, x)
    assert not excitations(prepared)
    assert error(prepared(x), model(x).double()) < 1e-5


@torch.no_grad()
def test_a_convolution_with_a_hook_is_still_called():
    torch.manual_seed(0)
    model, x, seen = Excited().eval(), torch.randn(2, 3, 2, 4, 4), []
    model.fc1.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    prepared = prepare_for_inference(model, x)
    seen.clear()
    prepared(x)
    assert seen == [(2, 8, 1, 1, 1)]


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize("numbers", [1, 38])
@torch.no_grad()
def test_one_number_for_all_channels_is_no_excitation_of_each(numbers):
    torch.manual_seed(0)
    model = Excited(38)
    model.fc2 = nn.Conv3d(8, numbers, 1)
    x = torch.randn(2, 3, 2, 5, 6)
    prepared = prepare_for_inference(model.eval(), x)
    assert len(excitations(prepared)) == (numbers == 38)
    assert error(prepared(x), model.double()(x.double())) < 1e-5


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_who_hooks_one_of_the_two_convolutions_later_sees_it_called():
    model, x, seen = Excited(38).eval(), torch.randn(2, 3, 2, 5, 6), []
    prepared = prepare_for_inference(model, x)
    prepared.fc1.register_forward_hook(lambda *args: seen.append(args[-1].shape))
    assert error(prepared(x), model.double()(x.double())) < 1e-5
    assert seen == [(2, 8, 1, 1, 1)]


class Overwriting(Excited):
    """What was excited is changed before Swish."""

    def forward(self, x):
        x = self.conv(x)
        y = x * self.sigmoid(self.fc2(self.relu(self.fc1(self.pool(x)))))
        x.add_(1)
        return nn.functional.silu(y)


@pytest.mark.usefixtures("_compiler")
@torch.no_grad()
def test_what_was_overwritten_since_is_not_read_again():
    model, x = Overwriting(38).eval(), torch.randn(2, 3, 2, 5, 6)
    prepared = prepare_for_inference(model, x)
    assert error(prepared(x), model.double()(x.double())) < 1e-5
