"""Maps in bfloat16: what the kernels make of them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from convolutions import gates_of, make_case, patterns
from hypothesis import given
from hypothesis import strategies as st
from test_fast_convolutions import PACKABLE, error, norm_of
from test_fast_gate import gate_of
from test_fast_squeeze_excite import Excited
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.fast import prepare_for_inference
from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.fused_conv import DynamicConv, StaticConv
from vared_mm.fast.max_pool import MaxPool
from vared_mm.fast.native_conv import packed
from vared_mm.fast.packed_conv import as_channels_last
from vared_mm.fast.prepared_gate import PreparedGate
from vared_mm.kernels import tiled_conv
from vared_mm.kernels.convolutions import Convolving, Expander, Finish, Geometry
from vared_mm.kernels.loading import Source, loaded
from vared_mm.kernels.tiled_conv import Tiling
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import forced_gates

pytestmark = pytest.mark.usefixtures("_compiler")
# What one rounding is off by, of the number itself.
HALF = 2**-8
ONES = (1, 1, 1)
POINT = Geometry(ONES, (0, 0, 0), ONES)


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_a_number_is_rounded_as_torch_rounds_it():
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (1 << 16,), dtype=torch.int32)
    # Those that are smaller than normal ones, a processor may make zero.
    bits = bits[bits.view(torch.float32).abs() >= 2.0**-126]
    numbers = torch.cat(
        [bits.view(torch.float32), torch.tensor([torch.inf, -torch.inf, torch.nan])]
    )
    # Half-way between two: to the even one.
    numbers = torch.cat(
        [numbers, ((torch.arange(64, dtype=torch.int32) << 15) + 0x3F800000).view(torch.float32)]
    )
    x = torch.ones(1, 1, 1, 1, 1, dtype=torch.bfloat16)
    zeros = torch.zeros(len(numbers))
    weight = zeros.view(-1, 1, 1, 1, 1)
    conv = Convolving(weight, POINT, x.dtype)
    came = conv(x, Finish(zeros, numbers, False), None, None).flatten()
    expected = numbers.bfloat16()
    assert torch.equal(came.isnan(), expected.isnan())
    assert torch.equal(came.nan_to_num(), expected.nan_to_num())


@pytest.fixture(params=["as they are", "small"])
def _pieces(request, monkeypatch):
    """Of maps and weights, as large as caches are, or so small that every one has several."""
    monkeypatch.setattr(tiled_conv, "suits", lambda: True)
    if request.param == "small":
        text = tiled_conv.SOURCE.text
        for size, less in (("1 << 18", "1 << 9"), ("512", "32"), ("1 << 19", "1 << 11")):
            assert text.count(f" = {size};") == 1
            text = text.replace(f" = {size};", f" = {less};")
        small = loaded(Source("tiled_conv_small", text))
        monkeypatch.setattr(tiled_conv, "compiled_kernels", lambda: small)


@pytest.mark.usefixtures("_pieces", "_threads")
@given(st.data())
@torch.no_grad()
def test_any_convolution_that_tiles_know_is_torchs(data):
    draw = data.draw
    dims = draw(st.sampled_from([2, 3]))

    def each(most):
        return draw(st.lists(st.integers(1, most), min_size=dims, max_size=dims))

    kernel, stride, dilation = each(3), each(2), each(2)
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    padding = [draw(st.integers(0, r)) for r in reach]
    # As large as the kernel, padded, and more.
    size = [
        max(1, r + 1 - 2 * p) + draw(st.integers(0, 24 if i == dims - 1 else 6))
        for i, (r, p) in enumerate(zip(reach, padding, strict=True))
    ]
    inputs, filters = draw(st.sampled_from([1, 3, 7, 24, 33, 64])), draw(st.integers(16, 70))
    torch.manual_seed(draw(st.integers(0, 99)))
    x = as_channels_last(torch.randn(draw(st.integers(1, 3)), inputs, *size).bfloat16())
    weight = torch.randn(filters, inputs, *kernel)
    geometry = Geometry(tuple(stride), tuple(padding), tuple(dilation), 1)
    relu, with_other = draw(st.booleans()), draw(st.booleans())
    convolve = F.conv3d if dims == 3 else F.conv2d
    y = convolve(x.double(), weight.bfloat16().double(), None, stride, padding, dilation)
    other = as_channels_last(torch.randn(y.shape).bfloat16()) if with_other else None
    scale, bias, gates = torch.randn(filters), torch.randn(filters), torch.rand(len(x), 3)
    shape = (1, -1, *[1] * dims)
    expected = (
        scale.double().view(shape) * (gates[:, 0] * gates[:, 2]).view(-1, *[1] * (dims + 1)) * y
    )
    expected = expected + bias.double().view(shape) + (0 if other is None else other.double())
    assert tiled_conv.knows(weight, geometry)
    kernel = Tiling(weight, geometry)
    # And channels that are not read.
    more = torch.full((len(x), draw(st.sampled_from([0, 5])), *size), torch.nan).bfloat16()
    x = as_channels_last(torch.cat([x, more], 1))
    assert kernel.serves(x)
    came = kernel(x, Finish(scale, bias, relu, 3, [0, 2]), gates, other)
    assert came.shape == expected.shape
    assert error(came, expected.relu() if relu else expected) < HALF


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("size", [(2, 8, 8), (4, 2, 8), (4, 8, 2), (1, 1, 1)])
@torch.no_grad()
def test_what_is_smaller_than_the_kernel_is_refused_as_by_torch(size):
    conv = packed(
        torch.randn(16, 3, 3, 3, 3), None, Geometry((1, 2, 2), (0, 0, 0), ONES, 1), torch.bfloat16
    )
    with pytest.raises(RuntimeError, match="[Kk]ernel size can't be greater than actual input"):
        conv(as_channels_last(torch.randn(1, 3, *size).bfloat16()))


@pytest.mark.usefixtures("_pieces")
@torch.no_grad()
def test_no_number_of_another_sample_is_read():
    x = as_channels_last(torch.randn(3, 7, 2, 5, 6).bfloat16())
    x[1] = torch.nan
    kernel = Tiling(torch.randn(20, 7, 3, 3, 3), Geometry(ONES, ONES, ONES))
    came = kernel(x, Finish(torch.ones(20), torch.zeros(20), False), None, None)
    assert [bool(sample.isnan().any()) for sample in came] == [False, True, False]
    assert bool(came[1].isnan().all())


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((15, 4, 3, 3, 3), {}),
        ((16, 2, 3, 3, 3), dict(groups=2)),
        ((16, 4, 1, 1, 1), dict(padding=(0, 1, 1))),
    ],
    ids=["few filters", "groups", "padded by more than it reaches"],
)
def test_others_are_not_for_tiles(shape, settings):
    settings = dict(stride=ONES, padding=(0, 0, 0), dilation=ONES) | settings
    assert not tiled_conv.knows(torch.randn(shape), Geometry(**settings))


@pytest.mark.usefixtures("_tiles", "_suited")
def test_which_kernel_takes_a_convolution_is_told_by_maps_and_processor():
    point = torch.randn(16, 4, 1, 1, 1)
    taken = packed(point, None, POINT, torch.bfloat16).kernel
    assert type(taken) is (Tiling if tiled_conv.suits() else Convolving)
    assert type(packed(point, None, POINT, torch.float32).kernel) is Convolving


def wide_case(samples=3):
    """A dynamic convolution with filters for more than one tile, the plain one, and an input."""
    torch.manual_seed(0)
    plain = nn.Conv3d(9, 40, (3, 3, 3), padding=1, bias=False)
    model = nn.Sequential(copy.deepcopy(plain))
    make_dynamic(model, DynamicConfig(search_space=3))
    dynamic = model[0].eval()
    for weight in dynamic.cheap.parameters():
        nn.init.normal_(weight, std=0.3)
    return dynamic, plain, torch.randn(samples, 9, 8, 6, 7)


@pytest.mark.usefixtures("_tiles", "_suited")
@pytest.mark.parametrize("name", [*PACKABLE, "wide"])
@torch.no_grad()
def test_each_pattern_is_that_of_float32_but_for_roundings(name):
    dynamic, plain, x = wide_case() if name == "wide" else make_case(name, torch.float32)
    dynamic.eval()
    norm, x = norm_of(dynamic), as_channels_last(x.bfloat16())
    other = torch.randn(plain(x.float()).shape).bfloat16()
    epilogue = Epilogue.of(dynamic, norm, relu=True)
    half = DynamicConv(dynamic, epilogue, torch.bfloat16)
    for pattern in patterns(dynamic):
        with forced_gates(dynamic, gates_of(pattern)):
            expected = (norm(dynamic(x.float())) + other.float()).relu()
            came = half(x, other)
        assert came.dtype == torch.bfloat16
        # Weights, what is computed, what is rebuilt.
        assert error(came, expected.double()) < 3 * HALF, pattern
    static = StaticConv(plain, epilogue, torch.bfloat16)(x, other)
    assert error(static, (norm(plain(x.float())) + other.float()).double().relu()) < 2 * HALF


@pytest.mark.usefixtures("_suited", "_threads")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_depthwise_convolutions_of_any_width_read_and_write_halves(frames, stride):
    torch.manual_seed(0)
    weight = torch.randn(54, 1, frames, 3, 3).bfloat16()
    geometry = Geometry((1, stride, stride), (frames // 2, 1, 1), ONES, 54)
    conv = packed(weight.float(), torch.randn(54), geometry, torch.bfloat16)
    for width in range(1, 20):
        x = as_channels_last(torch.randn(2, 54, 5, 9, width).bfloat16())
        expected = F.conv3d(
            x.double(),
            weight.double(),
            conv.bias.double(),
            geometry.stride,
            geometry.padding,
            1,
            54,
        )
        assert error(conv(x, None, True), expected.relu()) < HALF, width


@pytest.mark.usefixtures("_suited", "_threads")
@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_what_is_between_two_convolutions_may_have_any_width(stride):
    torch.manual_seed(0)
    first, then = torch.randn(40, 6, 1, 1, 1).bfloat16(), torch.randn(40, 1, 3, 3, 3).bfloat16()
    pointwise = Convolving(first.float(), POINT, torch.bfloat16)
    geometry = Geometry((1, stride, stride), ONES, ONES, 40)
    depthwise = Convolving(then.float(), geometry, torch.bfloat16)
    shift = torch.linspace(-1, 1, 40)
    by = Expander(pointwise, Finish(torch.ones(40), shift, True), None)
    for width in range(1, 20):
        x = as_channels_last(torch.randn(1, 6, 3, 5, width).bfloat16())
        came = depthwise.expanded(x, Finish(torch.ones(40), torch.zeros(40), False), None, by)
        between = F.conv3d(x.double(), first.double(), shift.double()).relu()
        expected = F.conv3d(between, then.double(), None, (1, stride, stride), 1, 1, 40)
        assert error(came, expected) < 2 * HALF, width


@pytest.mark.parametrize(("inputs", "groups"), [(12, 12), (12, 6), (1, 1)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (5, 3, 3), (3, 5, 5), (1, 3, 3), (3, 5), (2, 3)])
@torch.no_grad()
def test_several_filters_for_each_channel_are_right_for_one_frame_too(kernel, inputs, groups):
    torch.manual_seed(0)
    conv, norm = (nn.Conv3d, nn.BatchNorm3d) if len(kernel) == 3 else (nn.Conv2d, nn.BatchNorm2d)
    stride = (*[1] * (len(kernel) - 1), 2)
    first = conv(inputs, 24, kernel, stride, tuple(k // 2 for k in kernel), groups=groups)
    model = nn.Sequential(first, norm(24), nn.ReLU()).eval()
    sizes = [(4, 9, 9), (1, 9, 9), (2, 9, 2), (1, 9, 1)]
    if len(kernel) == 2:
        sizes = [(14, 5), (9, 1), (9, 2), (1, 2)]
    first = torch.randn(2, inputs, *sizes[0])
    prepared = prepare_for_inference(model, first, precision="bfloat16")
    for size in sizes * 2:
        x = torch.randn(2, inputs, *size)
        assert error(prepared(x), copy.deepcopy(model).double()(x.double())) < 3 * HALF, size


def grey(*size):
    """One channel that lies channels last, by its strides too."""
    return torch.empty(size, memory_format=torch.channels_last).normal_()


class Twice(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x) + self.conv(x + 1)


def hooked(conv):
    conv.register_forward_pre_hook(lambda module, args: None)
    return conv


KEPT = {
    "prepared": lambda make: make(),
    "padded by a word": lambda make: make(padding="valid"),
    "padded otherwise": lambda make: make(padding=(1, 0), padding_mode="replicate"),
    "called twice": lambda make: Twice(make()),
    "with a hook": lambda make: hooked(make()),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", KEPT)
@torch.no_grad()
def test_one_channel_of_a_few_columns_is_read_rightly(name, precision):
    torch.manual_seed(0)
    conv = KEPT[name](lambda **how: nn.Conv2d(1, 8, 3, (1, 3), **how))
    model = nn.Sequential(conv, nn.Conv2d(8, 8, 1)).eval().to(memory_format=torch.channels_last)
    exact, prepared = copy.deepcopy(model).double(), None
    for size in [(3, 1, 14, 12), (3, 1, 14, 3), (3, 1, 14, 4), (3, 1, 64, 3)] * 2:
        x = grey(*size)
        prepared = prepared or prepare_for_inference(model, x, precision=precision)
        assert error(prepared(x), exact(x.double())) < 4 * HALF, size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_plain_form_reads_one_channel_rightly_too(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, (1, 3))).eval()
    make_dynamic(model, DynamicConfig())
    exact = copy.deepcopy(model).double()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        for width in (3, 4, 12):
            x = grey(3, 1, 14, width)
            assert error(model(x), exact(x.double())) < 2 * HALF, width


@pytest.mark.parametrize("size", [(5, 6, 7), (1, 5, 8)])
@torch.no_grad()
def test_pooling_changes_no_number(size):
    torch.manual_seed(0)
    pool, x = nn.MaxPool3d(3, 2, 1), as_channels_last(torch.randn(2, 19, *size).bfloat16())
    assert torch.equal(MaxPool(pool)(x), pool(x))


@pytest.mark.parametrize("settings", [{}, {"pool": "change", "normalised": True}], ids=str)
@torch.no_grad()
def test_gates_decide_in_float32(settings):
    gate, x = gate_of(**settings), torch.randn(50, 37, 3, 5, 6)
    x = as_channels_last((x + torch.linspace(-1, 1, 50).view(-1, 1, 1, 1, 1)).bfloat16())
    came = PreparedGate(gate)(x)
    assert came.dtype == torch.float32
    assert (came - copy.deepcopy(gate).double()(x.double())).abs().max() < 1e-5


@pytest.mark.parametrize("swish", [True, False])
@torch.no_grad()
def test_squeeze_and_excitation_sums_in_float32(swish):
    torch.manual_seed(0)
    model, x = Excited(38, swish).eval(), torch.randn(2, 3, 3, 5, 6)
    prepared = prepare_for_inference(model, x, precision="bfloat16")
    assert error(prepared(x), model.double()(x.double())) < 3 * HALF


@pytest.mark.usefixtures("_tiles", "_suited")
@torch.no_grad()
def test_a_depthwise_convolution_reads_what_either_kernel_makes():
    torch.manual_seed(0)
    pair = nn.Conv3d(16, 32, 1), nn.ReLU(), nn.Conv3d(32, 32, 3, padding=1, groups=32)
    model, x = nn.Sequential(*pair).eval(), torch.randn(2, 16, 3, 5, 6)
    prepared = prepare_for_inference(model, x, precision="bfloat16")
    assert error(prepared(x), model.double()(x.double())) < 3 * HALF
