"""Our own convolutions against torch's in float64."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_fast_convolutions import error

from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.native_conv import NativeConv, kernel_for, packed
from vared_mm.fast.packed_conv import PackedConv, as_channels_last
from vared_mm.kernels import convolutions, tiled_conv
from vared_mm.kernels.convolutions import SOURCE, Convolving, Expander, Geometry, knows
from vared_mm.kernels.loading import Source, loaded

CONVOLUTIONS = {4: F.conv2d, 5: F.conv3d}
ONES = (1, 1, 1)
# name: input channels, filters, kernel, stride, size of the input, and of its geometry what is not
# usual: as many zeros around as the kernel reaches beyond its middle, no dilation, and groups where
# the name says depthwise.
CASES = {
    "one vector": (3, 16, ONES, ONES, (2, 3, 3)),
    "a filter more than a vector": (5, 17, ONES, ONES, (1, 5, 7)),
    "fewer pixels than are taken together": (4, 54, ONES, ONES, (1, 1, 5)),
    "seven vectors, many pixels": (9, 108, ONES, ONES, (3, 10, 11)),
    "every second frame": (6, 40, ONES, (2, 1, 1), (5, 3, 5)),
    "every second pixel": (6, 33, ONES, (1, 2, 2), (3, 7, 18)),
    "pixels of an image": (7, 24, (1, 1), (2, 2), (5, 20)),
    "fewer filters than a vector has": (20, 9, ONES, (1, 2, 2), (2, 5, 6)),
    "in space and time, fewer filters": (3, 15, (3, 3, 3), ONES, (3, 4, 5)),
    "a run that nothing divides": (347, 17, ONES, ONES, (2, 3, 4)),
    "neighbours in time": (45, 33, (3, 1, 1), ONES, (5, 4, 13)),
    "in time, every second frame": (9, 18, (3, 1, 1), (2, 1, 1), (6, 3, 5)),
    "in time, dilated": (
        9,
        18,
        (3, 1, 1),
        ONES,
        (9, 3, 5),
        dict(padding=(2, 0, 0), dilation=(2, 1, 1)),
    ),
    "in time, every second pixel": (8, 16, (3, 1, 1), (1, 2, 2), (3, 5, 7)),
    "unlike parts of several frames": (6, 16, ONES, (1, 2, 2), (3, 3, 259)),
    "frames in unlike parts": (16, 16, (1, 3, 3), ONES, (5, 34, 34)),
    "rows in unlike parts": (16, 16, (1, 3, 3), ONES, (1, 150, 40)),
    "in space": (20, 50, (1, 3, 3), ONES, (3, 7, 7)),
    "in space and time": (20, 40, (3, 3, 3), ONES, (4, 6, 7)),
    "a first layer": (3, 24, (7, 7, 7), (2, 2, 2), (9, 17, 19)),
    "a first layer of an image": (3, 45, (7, 7), (2, 2), (30, 41)),
    "one pixel": (5, 16, (3, 3, 3), ONES, (1, 1, 1)),
    "dilated": (11, 18, (3, 3), (1, 1), (9, 13), dict(padding=(2, 2), dilation=(2, 2))),
    "not padded": (5, 16, (3, 3, 3), ONES, (3, 5, 6), dict(padding=(0, 0, 0))),
    "padded in time alone": (5, 16, (3, 3, 3), (1, 2, 1), (3, 5, 6), dict(padding=(1, 0, 0))),
    "more weights than stay at hand": (130, 18, (3, 3, 3), ONES, (3, 5, 4)),
    "frames that no tap meets": (
        5,
        16,
        (2, 1, 1),
        ONES,
        (1, 3, 5),
        dict(padding=(3, 0, 0), dilation=(3, 1, 1)),
    ),
    "rows that no tap meets": (
        7,
        70,
        (1, 2, 3),
        ONES,
        (2, 1, 9),
        dict(padding=(0, 3, 1), dilation=(1, 3, 1)),
    ),
    "more rows than stay at hand": (64, 16, (3, 3, 3), ONES, (2, 40, 60)),
    "depthwise, a vector": (16, 16, (3, 3, 3), ONES, (3, 4, 5)),
    "depthwise, 54 channels": (54, 54, (3, 3, 3), ONES, (4, 5, 17)),
    "depthwise, one pixel": (20, 20, (3, 3, 3), ONES, (1, 1, 1)),
    "depthwise, stride 2, even": (17, 17, (3, 3, 3), (1, 2, 2), (3, 6, 18)),
    "depthwise, stride 2, odd": (30, 30, (3, 3, 3), (1, 2, 2), (2, 7, 5)),
    "depthwise, every second frame": (18, 18, (3, 3, 3), (2, 1, 1), (6, 4, 9)),
    "depthwise, every fourth frame": (18, 18, (3, 3, 3), (4, 1, 1), (9, 2, 3)),
    "depthwise, frames alone": (19, 19, (1, 3, 3), ONES, (3, 4, 8)),
    "depthwise, an image": (21, 21, (3, 3), (2, 2), (9, 7)),
    "depthwise, two groups of vectors": (160, 160, (1, 3, 3), ONES, (2, 9, 6)),
    "depthwise, more rows than the ring holds": (50, 50, (3, 3, 3), ONES, (2, 9, 300)),
}


# Of the largest number: what is lost by the order of sums, and by one rounding.
OFF = {torch.float32: 1e-5, torch.bfloat16: 2**-8}


def make(name, samples=2, maps=torch.float32):
    torch.manual_seed(len(name))
    inputs, filters, kernel, stride, size, *unusual = CASES[name]
    groups = filters if "depthwise" in name else 1
    weight = torch.randn(filters, inputs // groups, *kernel).to(maps).float()
    usual = Geometry(stride, tuple(k // 2 for k in kernel), (1,) * len(kernel), groups)
    geometry = replace(usual, **dict(*unusual))
    return native(weight, None, geometry, maps), torch.randn(samples, inputs, *size).to(maps)


def native(weight, bias, geometry, maps=torch.float32):
    assert knows(weight, geometry)
    kernel = Convolving(weight, geometry, maps)
    return NativeConv(weight, bias, geometry, maps, kernel)


def by_torch(conv, x):
    g = conv.geometry
    return CONVOLUTIONS[x.ndim](
        x.double(), conv.weight.double(), None, g.stride, g.padding, g.dilation, g.groups
    )


def epilogue_of(conv, relu):
    return Epilogue(*torch.randn(2, len(conv.weight)), relu)


def followed(y, epilogue, factor, other=0.0):
    shape = (1, -1, *[1] * (y.ndim - 2))
    factor = factor.double().view(-1, *[1] * (y.ndim - 1))
    y = factor * epilogue.scale.double().view(shape) * y
    y = y + epilogue.bias.double().view(shape) + other
    return y.relu() if epilogue.relu else y


# So that maps, weights and sums have several pieces.
SMALL = {
    "WEIGHTS = 1 << 17;": "WEIGHTS = 1 << 10;",
    "WEIGHTS = 5120;": "WEIGHTS = 1 << 9;",
    "READ = (1 << 18) / sizeof(Map),": "READ = 1 << 9,",
    "RING = 1 << 18;": "RING = 1 << 13;",
}


@pytest.fixture(
    params=[(maps, pieces) for maps in OFF for pieces in ("as it is", "small, as with AVX-512")],
    ids="{0[0]}, {0[1]}".format,
)
def maps(request, monkeypatch):
    """Of the maps, with the sizes that the processor has, or small pieces and as many vectors and
    pixels at once as AVX-512 has registers for.
    """
    maps, pieces = request.param
    if pieces != "as it is":
        text = SOURCE.text
        for size, less in SMALL.items():
            assert text.count(size) == 1
            text = text.replace(size, less)
        small = Source(f"{SOURCE.stem}_small", f"#define MANY_REGISTERS\n{text}")
        kernels = {dtype: loaded(small.of(dtype)) for dtype in OFF}
        monkeypatch.setattr(
            convolutions, "compiled_kernels", lambda maps=torch.float32: kernels[maps]
        )
        assert convolutions.beside() == 3
    return maps


@pytest.mark.usefixtures("_suited", "_threads")
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_it_convolves_and_does_what_follows(name, maps):
    conv, x = make(name, maps=maps)
    y, gates, x = by_torch(conv, x), torch.rand(2, 4), as_channels_last(x)
    for relu, columns in ((False, []), (True, [1]), (False, [0, 3])):
        epilogue, factor = epilogue_of(conv, relu), gates[:, columns].prod(1)
        came = conv.kernel(x, epilogue.finish(4, columns), gates, None)
        assert error(came, followed(y, epilogue, factor)) < OFF[maps]
    other = as_channels_last(torch.randn(y.shape).to(maps))
    came = conv.kernel(x, epilogue.finish(4, columns), gates, other)
    assert error(came, followed(y, epilogue, factor, other.double())) < OFF[maps]


@pytest.mark.usefixtures("_by")
@pytest.mark.parametrize(
    "name",
    [
        "every second frame",
        "in time, every second pixel",
        "in space and time",
        "depthwise, 54 channels",
    ],
)
@torch.no_grad()
def test_in_place_of_onednn_it_takes_the_same_arguments(name):
    conv, x = make(name)
    bias = torch.randn(len(conv.weight))
    y = by_torch(conv, x) + bias.double().view(-1, 1, 1, 1)
    conv = native(conv.weight, bias, conv.geometry)
    # More channels than are read.
    x = torch.cat([x, torch.full_like(x[:, :3], 1e6)], 1)
    assert error(conv(x), y) < 1e-5
    assert error(conv(x, None, True), y.relu()) < 1e-5


@pytest.mark.usefixtures("_suited", "_threads")
@pytest.mark.parametrize("inputs", [6, 7])
@pytest.mark.parametrize("name", [name for name in CASES if "depthwise" in name])
@torch.no_grad()
def test_the_pointwise_convolution_before_a_depthwise_one_needs_no_maps(name, maps, inputs):
    conv, x = make(name, maps=maps)
    weight = torch.randn(x.shape[1], inputs, *[1] * (x.ndim - 2))
    plain = (1,) * (x.ndim - 2)
    first = native(weight, None, Geometry(plain, (0,) * len(plain), plain, 1), maps)
    x, gates = torch.randn(2, inputs, *x.shape[2:]).to(maps), torch.rand(2, 2, 3)
    before, after = epilogue_of(first, True), epilogue_of(conv, False)
    between = followed(by_torch(first, x), before, gates[0, :, 2])
    expected = followed(by_torch(conv, between), after, gates[1, :, 0])
    expander = Expander(first.kernel, before.finish(3, [2]), gates[0])
    came = conv.kernel.expanded(as_channels_last(x), after.finish(3, [0]), gates[1], expander)
    # What is between them may be rounded, too.
    assert error(came, expected) < 2 * OFF[maps]


@pytest.mark.usefixtures("_suited", "_threads")
@pytest.mark.parametrize("size", [(5, 9, 1), (4, 40, 6), (7, 3, 7), (1, 5, 8), (3, 4, 17)])
@pytest.mark.parametrize(("step", "stride", "kernel"), [(2, 1, 3), (4, 2, 3), (2, 2, 1)])
@torch.no_grad()
def test_frames_between_those_that_are_computed_are_rebuilt_as_they_are_read(
    step, stride, kernel, size, maps
):
    torch.manual_seed(0)
    first = native(torch.randn(40, 6, 1, 1, 1), None, Geometry(ONES, (0,) * 3, ONES, 1), maps)
    steps, padding = (step, stride, stride), (kernel // 2, 1, 1)
    weight = torch.randn(40, 1, kernel, 3, 3)
    conv = native(weight, None, Geometry(steps, padding, ONES, 40), maps)
    x, gates = torch.randn(2, 6, *size).to(maps), torch.rand(2, 2, 3)
    phi = torch.randn(step - 1, 40, 3, 3)
    before, after = epilogue_of(first, True), epilogue_of(conv, False)
    computed = by_torch(first, x)[:, :, ::step]
    made = [computed, *(F.conv3d(computed, own[:, None, None].double(), None, 1, (0, 1, 1), 1, 40)
                        for own in phi)]  # fmt: skip
    between = torch.stack(made, 3).flatten(2, 3)[:, :, : size[0]]
    expected = followed(
        by_torch(conv, followed(between, before, gates[0, :, 2])), after, gates[1, :, 0]
    )
    expander = Expander(first.kernel, before.finish(3, [2]), gates[0], convolutions.between(phi))
    came = conv.kernel.expanded(as_channels_last(x), after.finish(3, [0]), gates[1], expander)
    # Of what is computed, of Φ and of what is rebuilt.
    assert error(came, expected) < 4 * OFF[maps]


@pytest.mark.usefixtures("_suited")
@torch.no_grad()
def test_nan_stays_where_it_belongs():
    conv, x = make("depthwise, a vector")
    x[0, 3, 0, 0, 0] = float("nan")
    came = conv(x, None, True)
    assert came.isnan().nonzero().tolist() == [
        [0, 3, t, h, w] for t in range(2) for h in range(2) for w in range(2)
    ]


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((8, 4, 1, 1, 1), {}),
        ((16, 4, 1, 3, 3), dict(padding=(0, 1, 1))),
        ((160, 160, 3, 3, 3), dict(padding=(1, 1, 1))),
        ((16, 2, 1, 1, 1), dict(groups=2)),
        ((16, 4, 1, 1, 1), dict(padding=(0, 1, 1))),
        ((16, 1, 5, 3, 3), dict(groups=16, padding=(2, 1, 1))),
        ((16, 1, 3, 3, 3), dict(groups=16, padding=(1, 1, 1), dilation=(1, 2, 2))),
        ((16, 1, 3, 3, 3), dict(groups=16, padding=(1, 1, 1), stride=(1, 1, 2))),
        ((16, 1, 3, 3, 3), dict(groups=16, padding=(1, 0, 0))),
        ((32, 1, 3, 3, 3), dict(groups=16, padding=(1, 1, 1))),
    ],
    ids=[
        *(
            "few filters",
            "few weights",
            "large",
            "groups",
            "padded points",
            "five frames",
            "dilated",
        ),
        *("unlike strides", "not padded", "two filters a channel"),
    ],
)
def test_others_are_left_to_onednn(shape, settings):
    settings = dict(stride=ONES, padding=(0, 0, 0), dilation=ONES, groups=1) | settings
    conv = packed(torch.randn(shape), None, Geometry(**settings), torch.float32)
    assert type(conv) is PackedConv


@pytest.mark.usefixtures("_suited")
@pytest.mark.parametrize(
    ("shape", "maps"),
    [
        ((64, 3, 7, 7, 7), torch.float32),
        ((48, 16, 3, 3, 3), torch.float32),
        ((9, 20, 1, 1, 1), torch.float32),
        ((64, 40, 1, 1, 1), torch.bfloat16),
        ((48, 16, 3, 3, 3), torch.bfloat16),
    ],
    ids=["first layer", "small", "nine filters", "points in bfloat16", "small in bfloat16"],
)
def test_ours_takes_what_it_is_quicker_at(shape, maps, monkeypatch):
    monkeypatch.setattr(tiled_conv, "suits", lambda: False)
    padding = tuple(k // 2 for k in shape[2:])
    conv = packed(torch.randn(shape), None, Geometry(ONES, padding, ONES, 1), maps)
    assert type(conv) is NativeConv


@pytest.mark.parametrize(("vectors", "ours"), [(1, False), (3, True)])
def test_more_is_small_where_more_vectors_of_filters_lie_side_by_side(vectors, ours, monkeypatch):
    monkeypatch.setattr(convolutions, "beside", lambda: vectors)
    weight = torch.empty(160, 40, 3, 3, 3)
    assert convolutions.is_quick(weight, 1) == ours


def test_other_precisions_are_left_to_torch():
    geometry = Geometry(ONES, (0, 0, 0), ONES, 1)
    for dtype in (torch.float64, torch.float16):
        assert kernel_for(torch.randn(16, 4, 1, 1, 1, dtype=dtype), geometry, dtype) is None


@pytest.mark.parametrize("name", ["one vector", "depthwise, a vector", "depthwise, an image"])
@torch.no_grad()
def test_nothing_in_nothing_out(name):
    conv, x = make(name)
    assert conv(x[:0]).shape == (0, *conv(x).shape[1:])
    if "depthwise" in name:
        with pytest.raises(RuntimeError, match="padded input size"):
            conv(x[..., :0, :])
