"""The evaluation form by one kernel: every choice, both layouts, and who gets torch's own."""

import pytest
import torch
from convolutions import CASES, expected_output, gates_of, make_case, patterns
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.kernels import rebuild as module
from vared_mm.kernels.functions import Function
from vared_mm.method import VaRedConv2d
from vared_mm.method.equations import LAYOUTS
from vared_mm.method.errors import DynamicError
from vared_mm.method.observe import forced_gates
from vared_mm.method.rebuild import REBUILD, rebuild

pytestmark = pytest.mark.usefixtures("_compiler")


@pytest.fixture
def runs(monkeypatch):
    """The calls of the kernel."""
    called, plain = [], Function.run

    def note(self, *arguments):
        called.extend(["rebuild"] * (self.call.__name__ == "rebuild"))
        return plain(self, *arguments)

    monkeypatch.setattr(Function, "run", note)
    return called


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_every_pattern_has_its_answer_in_the_layout_of_the_input(name, channels_last, runs):
    dynamic, _, x = make_case(name, torch.float32, samples=2)
    exact_dynamic, exact_plain, _ = make_case(name, samples=2)
    x = x.to(memory_format=LAYOUTS[x.ndim]) if channels_last else x
    for conv in (exact_dynamic, exact_plain):
        conv.load_state_dict(dynamic.state_dict(), strict=False)
    for pattern in patterns(dynamic):
        runs.clear()
        with forced_gates(dynamic, gates_of(pattern)):
            came = dynamic.eval()(x)
        expected = expected_output(exact_dynamic, exact_plain, x.double(), gates_of(pattern))
        assert (came - expected).abs().max() < 1e-5 * expected.abs().max(), pattern
        space = dynamic.dynamic.search_space
        rebuilds = any(is_open and i % space for i, is_open in enumerate(pattern))
        assert len(runs) == rebuilds, pattern
        if channels_last:
            assert came.is_contiguous(memory_format=LAYOUTS[x.ndim])


HALF_OPEN = torch.tensor([[0, 0.5, 0, 0.5]] * 3)


def half_open(dtype=torch.float32):
    dynamic, _, x = make_case("3x3x3", dtype)
    dynamic.gate.register_forward_hook(lambda *_: HALF_OPEN)
    return dynamic.eval(), x


@torch.no_grad()
def test_maps_in_bfloat16_are_summed_in_float32(runs):
    (half, x), (exact, _) = half_open(torch.bfloat16), half_open(torch.float64)
    exact.load_state_dict(half.state_dict())
    y = exact.plain(x.double()).bfloat16().double()
    expected = rebuild(exact.rebuild_of(y[:, :4, ::2], HALF_OPEN.double(), (False, True) * 2, 4))
    assert (half(x) - expected).abs().max() < 2**-8 * expected.abs().max()
    assert len(runs) == 1


@pytest.mark.usefixtures("_float64_by_default")
@torch.no_grad()
def test_the_user_s_default_type_does_not_matter(runs):
    module.nothing_after.cache_clear()
    (single, x), (double, _) = half_open(), half_open(torch.float64)
    double.load_state_dict(single.state_dict())
    torch.testing.assert_close(single(x), double(x.double()).float(), rtol=1e-5, atol=1e-5)
    assert len(runs) == 1


def test_a_gradient_that_passes_forward_is_left_to_torch(runs):
    dynamic, x = half_open()
    along = torch.randn_like(x)
    with torch.no_grad():
        came = torch.func.jvp(dynamic, (x,), (along,))[1]
        # Gates that do not change: the layer is linear, but for its bias.
        expected = (dynamic(x + along) - dynamic(x - along)) / 2
    torch.testing.assert_close(came, expected, rtol=1e-4, atol=1e-5)
    assert len(runs) == 2


@torch.no_grad()
def test_new_weights_count_at_once():
    dynamic, x = half_open()
    before = dynamic(x)
    for weight in dynamic.cheap.parameters():
        weight.data.mul_(2)
    after = dynamic(x)
    # Frame 0 of channel 7 is rebuilt once, frame 1 of it twice.
    torch.testing.assert_close(after[:, 7, 0], 2 * before[:, 7, 0])
    torch.testing.assert_close(after[:, 7, 1], 4 * before[:, 7, 1])


@torch.no_grad()
def test_other_types_and_kernels_get_torchs_operations(runs):
    dynamic, x = half_open(torch.float64)
    dynamic(x)
    wide = VaRedConv2d(2, 4, 3, dynamic=dict(cheap_kernel=9)).eval()
    with forced_gates(wide, (0, 0.5)):
        wide(torch.randn(1, 2, 5, 5))
    assert not runs


@torch.no_grad()
def test_who_counts_sees_what_the_kernel_does_and_who_differentiates_gets_a_gradient(runs):
    dynamic, x = half_open()
    with FlopCounterMode(display=False) as counter:
        dynamic(x)
    # Half of 8 channels at half of 4 frames of 5 x 6, 81 MACs each; then 9 for each value rebuilt,
    # 4 channels of 2 frames and 8 channels of the other 2.
    pixels = 3 * 5 * 6
    macs = counter.get_total_flops() // 2 - 3 * dynamic.gate.macs()
    assert macs == pixels * (4 * 2 * 81 + 4 * 2 * 9 + 8 * 2 * 9)
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(dynamic(x).sum(), dynamic.weight)
    exact, _ = half_open(torch.float64)
    exact.load_state_dict(dynamic.state_dict())
    with torch.enable_grad():
        (wanted,) = torch.autograd.grad(exact(x.double()).sum(), exact.weight)
    assert (grad - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert len(runs) == 2


@torch.no_grad()
def test_what_does_not_fit_together_is_refused_before_it_is_read(runs):
    y, gates = torch.randn(2, 4, 2, 3, 3), torch.rand(2, 4)
    phi, phi_time = torch.randn(4, 1, 1, 3, 3), torch.randn(1, 8, 1, 3, 3)
    good = [y, gates, [phi], [phi_time], [False, True] * 2, 8, 4]
    REBUILD(*good)
    for place, odd in (
        (0, y[:, :3]), (0, y[:, :, :1]), (1, gates[:1]), (1, gates[:, :3]), (2, [phi[:3]]),
        (3, [phi_time[:, :7]]), (3, [phi_time[..., :1]]), (5, 9), (6, 5),
    ):  # fmt: skip
        with pytest.raises((ValueError, RuntimeError), match=r"do not make|wanted|columns|zip"):
            REBUILD(*good[:place], odd, *good[place + 1 :])
    assert len(runs) == 1


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("name", ["3x3x3", "2-D"])
@torch.no_grad()
def test_gates_of_other_samples_are_refused_before_they_are_read(name, rows):
    dynamic, _, x = make_case(name, torch.float32)
    gates, half = torch.rand(rows, len(dynamic.axes) * 2), (False, True) * len(dynamic.axes)
    of = dynamic.rebuild_of(dynamic._full(x)[:, :4], gates, half, 4)
    with pytest.raises(DynamicError, match=f"3 samples .*with gates of .{rows}, "):
        rebuild(of)
    with pytest.raises(DynamicError, match=f"3 samples .*with gates of .{rows}, "):
        dynamic._forward_all(x, gates)
