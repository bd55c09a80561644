"""Convolutions that read their gates on the device, by their kernels; interpreted without a GPU."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from convolutions import CASES, expected_output, gates_of, make_case, patterns
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import vared_mm.fast.gpu.predicated_conv as predicated
from vared_mm.fast import fused, prepare_for_inference
from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.gpu.captured import Captured
from vared_mm.fast.gpu.device_gate import DeviceGate
from vared_mm.fast.gpu.predicated_conv import (
    PredicatedConv,
    is_skippable,
    packed_weight,
    taps_at_once,
)
from vared_mm.fast.packed_conv import LAYOUTS, empty_maps
from vared_mm.method import DynamicConfig, VaRedConv3d, make_dynamic
from vared_mm.method.gate import Gate
from vared_mm.method.observe import forced_gates

pytest.importorskip("triton", reason="Triton is not here")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
with pytest.MonkeyPatch.context() as patch:
    # What is imported now is interpreted for good.
    patch.setenv("TRITON_INTERPRET", "0" if DEVICE == "cuda" else "1")
    assert predicated.kernels().INTERPRETED is (DEVICE == "cpu")
    from triton.runtime.interpreter import interpreter_builder
# Nothing here counts to two billion, and looking after it takes most of the time.
interpreter_builder.options.__dict__["sanitize_overflow"] = False

pytestmark = pytest.mark.usefixtures("_exact_products")

COMPUTED_WHOLE = {
    "even kernel, same padding",
    "replicate padding",
    "groups that the halves cut",
}


def norm_of(conv):
    norm = (nn.BatchNorm3d if conv.weight.ndim == 5 else nn.BatchNorm2d)(conv.out_channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    return norm.double().eval()


def laid_out(x, dtype=torch.float32):
    return x.to(DEVICE, dtype).contiguous(memory_format=LAYOUTS[x.ndim])


def predicated_conv(dynamic, norm=None, relu=False, dtype=torch.float32):
    dynamic = dynamic.to(DEVICE, dtype).eval()
    norm = None if norm is None else norm.to(DEVICE)
    return PredicatedConv(dynamic, Epilogue.of(dynamic, norm, relu))


def error(came, expected):
    return float((came.cpu().double() - expected).abs().max() / expected.abs().max())


def check_all_in_one_batch(dynamic, plain, x, chosen):
    """One sample for each way to open paths, against the equations."""
    x = x[torch.arange(len(chosen)) % len(x)]
    norm, other = norm_of(plain), torch.randn(plain(x).shape, dtype=torch.float64)
    pairs = zip(x.split(1), chosen, strict=True)
    y = torch.cat([expected_output(dynamic, plain, one, gates_of(p)) for one, p in pairs])
    expected = (norm(y) + other).relu()
    run = predicated_conv(dynamic, norm, relu=True)
    gates = torch.tensor([gates_of(p) for p in chosen], device=DEVICE)
    came = run.run(laid_out(x), gates, laid_out(other))
    for sample, pattern in enumerate(chosen):
        assert error(came[sample], expected[sample]) < 1e-5, pattern


def test_all_but_uncommon_padding_and_groups_are_computed_in_part():
    assert {name for name in CASES if not is_skippable(make_case(name)[0])} == COMPUTED_WHOLE


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_mixed_batch_follows_the_equations_then_norm_addition_and_relu(name):
    dynamic, plain, x = make_case(name)
    ways = patterns(dynamic)
    # The first opens the least, the last all; the test below and the GPU take every way.
    few = [ways[0], ways[len(ways) // 2], ways[-1]]
    check_all_in_one_batch(dynamic, plain, x, few if DEVICE == "cpu" else ways)


@pytest.mark.parametrize(("space", "side", "frames"), [(2, 3, 3), (3, 1, 5)])
@torch.no_grad()
def test_every_way_to_open_paths_follows_the_equations(space, side, frames):
    torch.manual_seed(0)
    plain = nn.Conv3d(2, 7, 1).double()
    settings = DynamicConfig(search_space=space, cheap_kernel=side)
    dynamic = VaRedConv3d.from_conv(plain, settings)
    for phi in dynamic.cheap.parameters():
        nn.init.normal_(phi)
    ways = patterns(dynamic)
    assert len(ways) == (2**space - 1) ** 2
    x = torch.randn(4, 2, frames, 3, 4, dtype=torch.float64)
    check_all_in_one_batch(dynamic, plain, x, ways)


@torch.no_grad()
def test_many_input_channels_are_read_tap_by_tap_and_few_with_all_taps_of_a_row():
    torch.manual_seed(0)
    plain = nn.Conv3d(17, 4, (1, 3, 3), padding=(0, 1, 1)).double()
    dynamic = VaRedConv3d.from_conv(plain, DynamicConfig())
    few = VaRedConv3d.from_conv(nn.Conv3d(3, 4, (1, 3, 5)), DynamicConfig())
    assert (taps_at_once(dynamic), taps_at_once(few)) == (1, 5)
    # 3 taps of T and H, each of 5 x 3 inputs, rounded up to 16.
    assert packed_weight(few).shape == (3, 4, 16)
    check_all_in_one_batch(
        dynamic, plain, torch.randn(1, 17, 2, 3, 3).double(), patterns(dynamic)[:1]
    )


@torch.no_grad()
def test_what_a_sample_does_not_need_is_neither_computed_nor_used(monkeypatch):
    plain, made = nn.Conv3d(2, 16, 1), []
    dynamic = VaRedConv3d.from_conv(plain, DynamicConfig())

    def unwritten(*args):
        made.append(empty_maps(*args).fill_(float("nan")))
        return made[-1]

    monkeypatch.setattr(predicated, "empty_maps", unwritten)
    run = predicated_conv(dynamic)
    gates = [[0.7, 0, 0.7, 0], [0, 0.7, 0.7, 0], [0.7, 0, 0, 0.7], [0, 0.7, 0, 0.7]]
    out = run.run(laid_out(torch.randn(4, 2, 5, 3, 3)), torch.tensor(gates, device=DEVICE), None)
    assert torch.isfinite(out).all()
    y, _, z = made[-3:]
    written = [torch.isfinite(maps).flatten(3).all(-1).sum((1, 2)).tolist() for maps in (y, z)]
    # Of 16 channels 8, of 5 frames 3; the first sample is finished at once. A GPU computes
    # channels by larger tiles.
    half = 8 if DEVICE == "cpu" else 16
    assert written == [[0, half * 5, 16 * 3, half * 3], [0, 0, 0, 16 * 3]]


class Unasked(TorchFunctionMode):
    """Refuses what makes the host wait for the device's numbers."""

    asking = ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__",
              "__index__", "__contains__")  # fmt: skip

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert getattr(func, "__name__", "") not in self.asking, f"{func} asks the device"
        return func(*args, **(kwargs or {}))


class UnaskedBelow(TorchDispatchMode):
    """The same below Python."""

    asking = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "is_nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not any(name.startswith(asking) for asking in self.asking), f"{func} asks"
        masks = [i for i in (args[1] if name.startswith("index") else []) if i is not None]
        assert not any(mask.dtype == torch.bool for mask in masks), f"{func} counts a mask"
        return func(*args, **(kwargs or {}))


def unasked():
    stack = ExitStack()
    stack.enter_context(UnaskedBelow())
    stack.enter_context(Unasked())
    return stack


class Block(nn.Module):
    """Two dynamic convolutions that share a gate, and a plain one; a residual, norms and ReLUs."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv3d(4, 6, 1), nn.Conv3d(6, 4, (1, 3, 3), padding=(0, 1, 1))
        self.norm1, self.norm2 = nn.BatchNorm3d(6), nn.BatchNorm3d(4)
        self.last = nn.Conv3d(4, 5, 1)

    def forward(self, x):
        y = self.norm1(self.conv1(x)).relu()
        return self.last((self.norm2(self.conv2(y)) + x).relu()).mean((2, 3, 4))


@pytest.fixture
def block():
    torch.manual_seed(0)
    model = Block()
    targets = r"(?P<block>)conv\d"
    make_dynamic(model, DynamicConfig(targets=targets, share="block"))
    for phi in (*model.conv1.cheap.parameters(), *model.conv2.cheap.parameters()):
        nn.init.normal_(phi, std=0.3)
    nn.init.normal_(model.conv1.gate.weight2, std=3.0)
    nn.init.zeros_(model.conv1.gate.beta)
    for norm in (model.norm1, model.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model.to(DEVICE).eval()


@torch.no_grad()
def test_a_prepared_network_answers_a_mixed_batch_without_asking_the_device(block, monkeypatch):
    monkeypatch.setattr("vared_mm.fast.prepare.is_predicated", lambda weight: True)
    # Of a CPU's clips alone it is asked, which stands for a GPU here.
    monkeypatch.setattr("vared_mm.fast.prepare.is_finite", lambda x: True)
    x = torch.randn(5, 4, 3, 4, 5, device=DEVICE) + torch.linspace(-2, 2, 5, device=DEVICE).view(
        5, 1, 1, 1, 1
    )
    prepared = prepare_for_inference(block, x[:2])
    assert fused(prepared)["conv2"] == "conv + norm + add + relu"
    assert isinstance(prepared.conv2.forward.run, PredicatedConv)
    expected = block(x)
    with unasked():
        came = prepared(x)
    assert error(came, expected.double().cpu()) < 1e-5
    assert len(set(map(tuple, (prepared.conv1.gate(x) > 0).tolist()))) > 1


@pytest.mark.parametrize(
    ("space", "other"), [(2, {}), (4, {}), (3, {"pool": "change", "normalised": True})]
)
@torch.no_grad()
def test_a_gate_answers_on_the_device_as_it_does_elsewhere(space, other):
    torch.manual_seed(space)
    settings = DynamicConfig(search_space=space, gate_hidden=5, **other)
    gate = Gate(70 if DEVICE == "cuda" else 6, 2, settings).eval()
    nn.init.normal_(gate.weight2)
    nn.init.normal_(gate.beta)
    gate.beta.data[:space] -= 14  # all of an axis closed: the largest takes the floor
    gate.norm.running_mean.normal_()
    x = torch.randn(3, 70 if DEVICE == "cuda" else 6, 2, 3, 3)
    expected = gate(x)
    x[1] = float("nan")
    came = DeviceGate(gate.to(DEVICE)).answer(laid_out(x)).cpu()
    assert came[1].isnan().all()
    assert (came - expected)[[0, 2]].abs().max() < 1e-6
    assert ((expected[:, :space] > 0).sum(1) == 1).all()


@torch.no_grad()
def test_the_plain_form_does_ask_the_device(block):
    with pytest.raises(AssertionError, match="asks the device"), unasked():
        block(torch.randn(2, 4, 3, 4, 5, device=DEVICE))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_in_half_precision_it_is_off_by_what_that_holds(dtype):
    # The interpreter multiplies matrices of bfloat16 as if their bits were whole numbers.
    interpretable = dtype == torch.float16 or DEVICE == "cuda"
    name = "spatial 1x3x3 of R(2+1)D" if interpretable else "2-D depthwise"
    dynamic, _, x = make_case(name, torch.float32)
    with forced_gates(dynamic, (0.7, 0.8, 0.0, 0.6)):
        expected = dynamic.eval()(x).double()
        came = predicated_conv(dynamic, dtype=dtype)(laid_out(x, dtype))
    assert came.dtype == dtype
    assert 1e-6 < error(came, expected) < {torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]


@torch.no_grad()
def test_gates_that_are_nan_spoil_their_own_sample_alone():
    dynamic, _, x = make_case("channel only", torch.float32)
    run = predicated_conv(dynamic, relu=True)
    expected = run(laid_out(x))
    spoilt = run(laid_out(x.index_fill(0, torch.tensor(1), float("nan"))))
    assert spoilt[1].isnan().all()
    assert torch.equal(spoilt[[0, 2]], expected[[0, 2]])


@torch.no_grad()
def test_an_empty_batch_gives_an_empty_result():
    dynamic, plain, x = make_case("2-D", torch.float32)
    assert predicated_conv(dynamic)(laid_out(x[:0])).shape == plain(x[:0]).shape


@torch.no_grad()
def test_gates_of_another_batch_are_refused():
    dynamic, _, x = make_case("2-D", torch.float32)
    dynamic.gate.register_forward_hook(lambda *args: args[-1][:1])
    with pytest.raises(ValueError, match=r"answered \(1, \d\) numbers; wanted \(3, "):
        predicated_conv(dynamic)(laid_out(x))


def test_a_graph_refuses_inputs_that_are_on_no_gpu():
    with pytest.raises(ValueError, match="on a CUDA device; came one on cpu"):
        Captured(nn.Identity())(torch.zeros(1))


def test_every_kernel_compiles_for_an_h100():
    script = Path(__file__).with_name("compile_kernels.py")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, check=True, timeout=250, capture_output=True, text=True)
    kernels = ["decide", "compute", "rebuild_channels", "rebuild_frames"]
    assert done.stdout.split() == 2 * kernels
