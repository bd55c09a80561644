"""Random searches: layers, prepared networks and kernels against torch in float64.

More of them with `--hypothesis-profile long`.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from convolutions import expected_output
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import Answer, convolutions, dynamics, gates, lively, maps, sizes
from torch import nn

from vared_mm.fast import prepare_for_inference
from vared_mm.fast.max_pool import MaxPool, is_plain_pool
from vared_mm.fast.prepared_gate import PreparedGate
from vared_mm.fast.same_answers import apart
from vared_mm.fast.squeeze_excite import SqueezeExcite
from vared_mm.kernels import convolutions as our_convolutions
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.gate import Gate
from vared_mm.method.observe import dynamic_convs

pytestmark = pytest.mark.usefixtures("_compiler")

seeds = st.integers(0, 9)
samples = st.integers(1, 3)


def assert_near(came, expected, within=1e-4):
    assert apart(came, expected) < within


@given(seeds, samples, st.data())
def test_a_layer_answers_in_both_forms_by_the_equations(seed, n, data):
    torch.manual_seed(seed)
    conv = data.draw(convolutions())
    dynamic = lively(conv, data.draw(dynamics(conv)))
    x = data.draw(maps((n, conv.in_channels, *data.draw(sizes(conv)))))
    answer = data.draw(gates(n, len(dynamic.axes), dynamic.dynamic.search_space))
    dynamic.gate = Answer(answer)
    exact, plain = (copy.deepcopy(m).double() for m in (dynamic, conv))
    with torch.no_grad():
        rows = zip(x.double(), answer.double().tolist(), strict=True)
        expected = torch.cat([expected_output(exact, plain, x[None], row) for x, row in rows])
        assert_near(dynamic.eval()(x), expected)
        assert_near(dynamic.train()(x), expected)


@given(seeds, samples, st.data())
def test_a_layer_has_the_gradients_of_float64(seed, n, data):
    torch.manual_seed(seed)
    conv = data.draw(convolutions())
    dynamic = lively(conv, data.draw(dynamics(conv))).train()
    x = data.draw(maps((n, conv.in_channels, *data.draw(sizes(conv)))))
    answer = data.draw(gates(n, len(dynamic.axes), dynamic.dynamic.search_space))
    found = []
    for dtype in (torch.float32, torch.float64):
        layer, inputs = copy.deepcopy(dynamic).to(dtype), x.to(dtype).detach().requires_grad_()
        layer.gate = Answer(answer.to(dtype).requires_grad_())
        out = layer(inputs)
        weights = torch.linspace(-1, 1, out.numel(), dtype=dtype).view(out.shape)
        asked = [inputs, layer.gate.answer, layer.weight, *layer.cheap.parameters()]
        asked = [t for t in asked if t.numel()]
        found.append(torch.autograd.grad((out * weights).sum(), asked))
    for came, expected in zip(*found, strict=True):
        assert_near(came, expected, 1e-3)


@pytest.fixture(params=[True, False], ids=["ours", "oneDNN"])
def _both(request, monkeypatch):
    """Our own convolutions, and those of processors that they do not suit."""
    monkeypatch.setattr(our_convolutions, "suits", lambda: request.param)


class Chain(nn.Module):
    """Convolution, norm, perhaps a sum, perhaps ReLU; then another one, perhaps of its gate."""

    def __init__(self, first, second, way):
        super().__init__()
        self.conv1, self.conv2, self.way = first, second, way
        norm = nn.BatchNorm3d if isinstance(first, nn.Conv3d) else nn.BatchNorm2d
        self.norm1, self.norm2 = norm(first.out_channels), norm(second.out_channels)
        conv = type(first)
        self.skip = conv(first.in_channels, first.out_channels, 1, first.stride)

    def forward(self, x):
        y = self.norm1(self.conv1(x))
        if "sum" in self.way:
            y = y + self.skip(x)
        if "one more" in self.way:
            y = y + 0.5 * y.mean((2, 3), keepdim=True)
        if "relu" in self.way:
            y = F.relu(y, inplace="in place" in self.way)
        z = self.norm2(self.conv2(y))
        if "swish" in self.way:
            z = z * torch.sigmoid(z)
        return (z, y) if "both" in self.way else z


WORDS = ("sum", "relu", "in place", "one more", "swish", "both")


@st.composite
def chains(draw):
    """The first is mostly pointwise and the second depthwise, as in X3D's blocks."""
    first = draw(convolutions())
    dims, channels = len(first.kernel_size), first.out_channels
    conv = type(first)
    if draw(st.booleans()):
        first = conv(first.in_channels, channels, 1, bias=draw(st.booleans()))
    if draw(st.booleans()):
        stride = (1,) * (dims - 2) + draw(st.sampled_from(((1, 1), (2, 2))))
        frames = draw(st.sampled_from((1, 3)))
        kernel = (3, 3) if dims == 2 else (frames, 3, 3)
        padding = tuple(k // 2 for k in kernel)
        second = conv(
            channels, channels, kernel, stride, padding, groups=channels, bias=draw(st.booleans())
        )
    else:
        second = conv(channels, draw(st.integers(2, 20)), 1, bias=draw(st.booleans()))
    return Chain(first, second, draw(st.sets(st.sampled_from(WORDS))))


@torch.no_grad()
def enliven(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for weight in (module.weight, module.running_var):
                weight.uniform_(0.5, 1.5)
            for weight in (module.bias, module.running_mean):
                weight.normal_(std=0.3)
    for conv in dynamic_convs(net).values():
        for phi in conv.cheap.parameters():
            nn.init.normal_(phi, std=0.4)


def force(net, answer):
    """On all gates; those of a block read what its first one was given."""
    for conv in dynamic_convs(net).values():
        conv.gate.register_forward_hook(lambda *args: answer[:, : args[-1].shape[1]].to(args[-1]))


@pytest.mark.usefixtures("_both")
@given(seeds, samples, chains(), st.data())
def test_a_prepared_network_answers_as_the_model_in_float64(seed, n, net, data):
    torch.manual_seed(seed)
    settings = data.draw(dynamics(min(net.conv1, net.conv2, key=lambda conv: conv.out_channels)))
    share = data.draw(st.sampled_from(("conv", "block", "static")))
    if share != "static":
        make_dynamic(net, DynamicConfig(
            targets=r"(?P<block>)conv\d", share=share, search_space=settings.search_space,
            axes=settings.axes, cheap_kernel=settings.cheap_kernel,
        ))  # fmt: skip
    enliven(net.eval())
    x = data.draw(maps((n, net.conv1.in_channels, *data.draw(sizes(net.conv1)))))
    try:
        net(x)
    except RuntimeError:
        # The second convolution's kernel, or the sum, does not fit.
        assume(False)
    exact = copy.deepcopy(net).double()
    with torch.no_grad():
        prepared = prepare_for_inference(net, x[:1])
        if share != "static":
            answer = data.draw(gates(n, len(settings.axes), settings.search_space))
            force(prepared, answer), force(exact, answer)
        expected, came = exact(x.double()), prepared(x)
    pairs = zip(came, expected, strict=True) if "both" in net.way else [(came, expected)]
    for a, b in pairs:
        assert_near(a, b)


@given(seeds, samples, st.data())
def test_a_prepared_gate_answers_as_the_gate_in_float64(seed, n, data):
    torch.manual_seed(seed)
    channels, axes = data.draw(st.integers(1, 80)), data.draw(st.sampled_from((1, 2)))
    space = data.draw(st.integers(2, 4))
    config = DynamicConfig(search_space=space, gate_hidden=data.draw(st.integers(1, 20)))
    gate = Gate(channels, axes, config).eval()
    nn.init.normal_(gate.weight2)
    size = data.draw(st.lists(st.integers(1, 20), min_size=2, max_size=3))
    x = data.draw(maps((n, channels, *size)))
    with torch.no_grad():
        expected = copy.deepcopy(gate).double()(x.double())
        for form in (gate, PreparedGate(gate)):
            assert (form(x) - expected).abs().max() < 1e-4


@given(seeds, samples, st.data())
def test_the_pooling_is_torchs(seed, n, data):
    torch.manual_seed(seed)
    kernel, stride = (data.draw(st.tuples(*[st.integers(1, 4)] * 3)) for _ in range(2))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    pool = nn.MaxPool3d(kernel, stride, padding)
    assert is_plain_pool(pool)
    size = tuple(k + data.draw(st.integers(0, 7)) for k in kernel)
    x = data.draw(maps((n, data.draw(st.integers(1, 70)), *size)))
    assert torch.equal(MaxPool(pool)(x), pool(x))


class Excited(nn.Module):
    def __init__(self, conv, pool, channels, hidden, outputs, swish):
        super().__init__()
        self.pool, self.swish = pool(1), swish
        self.fc1, self.fc2 = conv(channels, hidden, 1), conv(hidden, outputs, 1)

    def forward(self, x):
        x = x * torch.sigmoid(self.fc2(F.relu(self.fc1(self.pool(x)))))
        return x * torch.sigmoid(x) if self.swish else x


@given(seeds, samples, st.data())
def test_squeeze_and_excitation_is_that_of_float64(seed, n, data):
    torch.manual_seed(seed)
    size = data.draw(st.lists(st.integers(1, 15), min_size=2, max_size=3))
    conv = nn.Conv3d if len(size) == 3 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if len(size) == 3 else nn.AdaptiveAvgPool2d
    channels = data.draw(st.integers(1, 70))
    outputs = data.draw(st.sampled_from((channels, channels, 1)))
    net = Excited(
        conv, pool, channels, data.draw(st.integers(1, 9)), outputs, data.draw(st.booleans())
    )
    x = data.draw(maps((n, channels, *size)))
    with torch.no_grad():
        prepared = prepare_for_inference(net.eval(), x)
        used = any(isinstance(m, SqueezeExcite) for m in prepared.forward.graph.modules())
        assert used == (outputs == channels)
        assert_near(prepared(x), copy.deepcopy(net).double()(x.double()))
