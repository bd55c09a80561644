"""What we count is what runs: by hand and by torch's own counter."""

import copy
import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from convolutions import CASES, gates_of, make_case, patterns
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.fast import prepare_for_inference
from vared_mm.method import DynamicConfig, DynamicError, VaRedConv3d, make_dynamic
from vared_mm.method.cost import CostRecord, Pass, efficiency_loss, expected_ratio
from vared_mm.method.flop_counter import FlopCounter
from vared_mm.method.observe import forced_gates, record_cost

cases = pytest.mark.parametrize("name", CASES)


def macs_seen(run) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


@cases
def test_full_macs_are_those_that_torch_s_counter_saw_run_for_every_pattern(name):
    dynamic, plain, x = make_case(name)
    dynamic.eval()
    dense = macs_seen(lambda: plain(x))
    for pattern in patterns(dynamic):
        with forced_gates(dynamic, gates_of(pattern)), record_cost(dynamic) as record:
            seen = macs_seen(lambda: dynamic(x))
        (cost,) = record.passes
        assert cost.full.sum().item() == seen, pattern
        assert cost.dense * len(x) == dense


@cases
def test_full_macs_of_mixed_batches_are_those_that_ran(name):
    dynamic, _, x = make_case(name, samples=8)
    dynamic.eval()
    with record_cost(dynamic) as record:
        seen = macs_seen(lambda: dynamic(x))
    assert record.passes[0].full.sum().item() == seen


def test_half_the_channels_and_half_the_frames_are_a_quarter_by_hand():
    conv = VaRedConv3d(4, 8, 3, padding=1)
    x = torch.randn(1, 4, 6, 5, 5)
    with forced_gates(conv.eval(), (0, 1, 0, 1)), record_cost(conv) as record, torch.no_grad():
        conv(x)
    (cost,) = record.passes
    assert cost.dense == 8 * 6 * 25 * 4 * 27
    assert cost.share.item() == 0.25
    rebuilt_channels = 4 * 3 * 25 * 9  # 4 channels in 3 frames of 25 pixels, 3x3 each
    rebuilt_frames = 8 * 3 * 25 * 9
    gate = 4 * 16 + 16 * 4
    assert cost.full.item() == cost.dense / 4 + rebuilt_channels + rebuilt_frames + gate


@pytest.mark.parametrize(
    ("pattern", "share"),
    [
        ((1, 1, 1, 1), 1.0),
        ((1, 0, 0, 1), 3 / 5),  # 3 of 5 frames
        ((0, 1, 1, 1), 4 / 7),  # 4 of 7 channels
        ((0, 1, 0, 1), 3 / 5 * 4 / 7),
    ],
)
def test_the_share_is_the_one_really_computed_where_halves_do_not_divide(pattern, share):
    dynamic, _, x = make_case("odd channels, odd frames")
    with forced_gates(dynamic, gates_of(pattern)), record_cost(dynamic) as record:
        dynamic(x)
    torch.testing.assert_close(record.passes[0].share, torch.full((3,), share).double())


def test_the_expected_ratio_by_hand():
    gates = torch.tensor([[0.5, 0.4, 0.9], [0.0, 0.0, 0.1], [1.0, 0.3, 0.0]])
    ratios = torch.tensor([1.0, 0.5, 0.25])
    by_hand = [0.5 * 1 + 0.5 * (0.4 * 0.5 + 0.6 * 0.25), 0.25, 1.0]
    torch.testing.assert_close(expected_ratio(gates, ratios), torch.tensor(by_hand))


def two_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(2, 4, 1), nn.ReLU(), nn.Conv3d(4, 8, 3, padding=1))
    make_dynamic(model, DynamicConfig())
    return model


def test_layers_weigh_by_their_macs_and_the_value_is_that_of_the_open_paths():
    model, x = two_layers(), torch.randn(3, 2, 4, 5, 5)
    with forced_gates(model[0], (0, 1, 1, 0)), record_cost(model) as record:
        model(x)
    first, second = 4 * 2, 8 * 4 * 27
    expected = (first * 0.5 + second) / (first + second)
    torch.testing.assert_close(record.share(3), torch.full((3,), expected))


def test_the_gradient_of_the_share_is_that_of_the_expected_ratio():
    model, x = two_layers(), torch.randn(3, 2, 4, 5, 5)
    with record_cost(model) as record:
        model(x)
    record.share(3).sum().backward()
    # Both gates of an axis start at tanh 0.8, tanh 0.3; E = 1/2 + V_1/2 on each axis.
    v, w = torch.tanh(torch.tensor(0.8)), 864 / 872
    slope = 3 * w * (1 - v**2) / 2 * (1 + v) / 2
    expected = torch.tensor([slope, 0.0, slope, 0.0])
    torch.testing.assert_close(model[2].gate.beta.grad, expected)


# Milliseconds by hand: rows are all and half the channels, columns all and half the frames.
GRIDS = {"0": ((10.0, 8.0), (6.0, 12.0)), "2": ((30.0, 20.0), (25.0, 9.0))}


def test_the_share_of_time_is_that_of_the_largest_open_choices_in_the_table():
    model = two_layers()
    first = torch.tensor([[0.9, 0.0, 0.9, 0.9], [0.0, 0.9, 0.9, 0.0], [0.0, 0.9, 0.0, 0.9]])
    second = torch.tensor([[0.9, 0.9, 0.0, 0.9], [0.9, 0.0, 0.9, 0.0], [0.0, 0.9, 0.0, 0.9]])
    shapes = (3, 4, 4, 5, 5), (3, 8, 4, 5, 5)
    seen = [Pass("0", model[0], first, shapes[0]), Pass("2", model[2], second, shapes[1])]
    by_hand = [(10 + 20) / 40, (6 + 30) / 40, (12 + 9) / 40]
    share = CostRecord(seen).latency_share(3, GRIDS)
    torch.testing.assert_close(share, torch.tensor(by_hand))
    # The time of a sample's views is their mean; a pass that runs twice weighs twice.
    share = CostRecord([*seen, seen[0]]).latency_share(1, GRIDS)
    by_hand = [sum((10 + 20 + 10, 6 + 30 + 6, 12 + 9 + 12)) / 3 / 50]
    torch.testing.assert_close(share, torch.tensor(by_hand))


def expected_ms(gates, grid):
    """By all ways in which independent gates can fall: open with probability V, the last always."""
    rows, columns = len(grid), len(grid[0])
    total = 0.0
    for fallen in itertools.product((True, False), repeat=len(gates)):
        chance = math.prod(v if up else 1 - v for v, up in zip(gates, fallen, strict=True))
        row, column = (*fallen[: rows - 1], True), (*fallen[rows:-1], True)
        total += chance * grid[row.index(True)][column.index(True) if columns > 1 else 0]
    return total


TABLES = {
    "two axes": (nn.Conv3d(2, 8, 1), 2, ((3.0, 4.0), (2.0, 5.0))),
    "two axes, space 3": (
        nn.Conv3d(2, 8, 1),
        3,
        ((5.0, 4.0, 2.0), (3.0, 6.0, 1.0), (7.0, 2.0, 0.5)),
    ),
    "channels alone, space 3": (nn.Conv2d(2, 8, 1), 3, ((5.0,), (6.0,), (1.0,))),
}


@pytest.mark.parametrize(("plain", "space", "grid"), TABLES.values(), ids=TABLES)
def test_the_gradient_of_the_share_of_time_is_that_of_the_expected_time(plain, space, grid):
    model = nn.Sequential(plain)
    make_dynamic(model, DynamicConfig(search_space=space))
    gates = torch.rand(3, space * len(model[0].axes), dtype=torch.float64, requires_grad=True)
    shape = (3, 8, 4, 5, 5) if len(model[0].axes) == 2 else (3, 8, 5, 5)
    CostRecord([Pass("0", model[0], gates, shape)]).latency_share(3, {"0": grid}).sum().backward()
    step = 1e-5
    for sample, own in enumerate(gates.tolist()):
        for i in range(len(own)):
            ends = [[*own[:i], own[i] + d, *own[i + 1 :]] for d in (step, -step)]
            up, down = (expected_ms(end, grid) / grid[0][0] for end in ends)
            assert gates.grad[sample, i].item() == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_views_of_a_sample_are_added_up_and_repeated_passes_too():
    model, x = two_layers(), torch.randn(6, 2, 4, 5, 5)
    with record_cost(model) as record:
        model(x)
        model(x)
    table = record.per_layer(samples=3)
    assert record.names == ["0", "2"]
    # 2 views and 2 passes of 100 output positions each.
    assert table["dense"].tolist() == [[4 * 100 * 8, 4 * 100 * 864]] * 3
    assert table["paper"].shape == table["full"].shape == (3, 2)
    with pytest.raises(DynamicError, match="6 rows of cost cannot belong to 4 samples"):
        record.per_layer(samples=4)


def test_nothing_is_left_on_the_modules_after_the_block_even_after_an_error():
    model, x = two_layers(), torch.randn(2, 2, 4, 5, 5)
    before = {n: set(vars(m)) for n, m in model.named_modules()}
    with pytest.raises(DynamicError), record_cost(model), forced_gates(model, (1, 0)):
        model(x)
    assert all(not m._forward_hooks for m in model.modules())
    assert before == {n: set(vars(m)) for n, m in model.named_modules()}
    tensors = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    assert not tensors


COPIED = {
    "copied": lambda model, x: copy.deepcopy(model),
    "prepared": lambda model, x: prepare_for_inference(model, x, precision="float32"),
    "copied and prepared": lambda model, x: prepare_for_inference(
        copy.deepcopy(model), x, precision="float32"
    ),
}


@pytest.mark.parametrize("how", COPIED)
@torch.no_grad()
def test_a_copy_that_is_made_within_the_block_is_not_looked_at(how):
    model, x = two_layers().eval(), torch.randn(2, 2, 4, 5, 5)
    wanted = model(x)
    with forced_gates(model, (0, 1, 0, 1)), record_cost(model) as record:
        made = COPIED[how](model, x)
        assert not record.seen
        torch.testing.assert_close(made(x), wanted)
        assert not torch.allclose(model(x), wanted)
    assert len(record.seen) == 2
    torch.testing.assert_close(made(x), wanted)
    assert len(record.seen) == 2
    if how != "copied":
        assert not any(made.forward.hooks)


def test_a_static_model_has_no_cost():
    with record_cost(nn.Linear(2, 2)) as record:
        pass
    with pytest.raises(DynamicError, match="is the model static"):
        record.share(1)


def test_the_loss_is_the_mean_square_over_the_samples_that_are_right():
    share = torch.tensor([0.5, 0.8, 1.0, 0.6])
    right = torch.tensor([True, False, True, True])
    torch.testing.assert_close(efficiency_loss(share, right), torch.tensor((0.25 + 1.0 + 0.36) / 4))
    torch.testing.assert_close(efficiency_loss(share, right, target=0.6), torch.tensor(0.4**2 / 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_share_and_loss_are_in_float32_under_autocast(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(*[VaRedConv3d(8, 8, 3, padding=1) for _ in range(12)])
    for conv in net:
        nn.init.normal_(conv.gate.weight2, std=1.5)
        nn.init.zeros_(conv.gate.beta)
    with record_cost(net) as record:
        net(torch.randn(7, 8, 4, 6, 6))
    wanted = record.share(7)
    grids = dict.fromkeys(record.names, ((8.0, 5.0), (4.0, 3.0)))
    with torch.autocast("cpu", dtype):
        shares = {"macs": record.share(7), "latency": record.latency_share(7, grids)}
        losses = [efficiency_loss(share, torch.ones(7, dtype=torch.bool)) for share in
                  shares.values()]  # fmt: skip
    assert torch.equal(shares["macs"], wanted)
    assert {t.dtype for t in (*shares.values(), *losses)} == {torch.float32}
    # The largest scale that mixed precision starts with, float16 overflows at 65504.
    grads = torch.autograd.grad(65536 * sum(losses), [conv.gate.beta for conv in net])
    assert all(grad.isfinite().all() for grad in grads)


def test_a_thread_records_and_forces_its_own_passes_alone():
    net, x = nn.Sequential(VaRedConv3d(3, 8, 3)).eval(), torch.randn(1, 3, 4, 8, 8)
    together = threading.Barrier(2, timeout=30)

    @torch.no_grad()
    def run(choices):
        with forced_gates(net, choices), record_cost(net) as record:
            together.wait()
            net(x)
            together.wait()
        return record

    with ThreadPoolExecutor(2) as threads:
        records = list(threads.map(run, [(1, 0, 1, 0), (0, 1, 1, 0)]))
    assert [record.share(1).item() for record in records] == [1.0, 0.5]


@pytest.mark.parametrize(
    "choices",
    [(0, 0, 1, 0), (1, 0, 0, 0), (1, -1, 1, 0), (1, math.nan, 1, 0), (1, 0, 1), (1, 0, 1, 0, 1)],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_choices_that_leave_nothing_to_compute_are_not_forced(choices, training):
    net = nn.Sequential(VaRedConv3d(3, 8, 3)).train(training)
    with pytest.raises(DynamicError, match="are forced on"), forced_gates(net, choices):
        raise AssertionError("the block has begun")


@pytest.mark.parametrize("choices", [None, "1010", 1, (1, None, 1, 0), {"0": None}], ids=str)
def test_what_is_no_row_of_numbers_is_not_forced(choices):
    net = nn.Sequential(VaRedConv3d(3, 8, 3))
    wanted = r"is forced on 0; wanted 2 numbers from 0 up for each of .* as \(0, 1, 0, 1\)"
    with pytest.raises(DynamicError, match=wanted), forced_gates(net, choices):
        raise AssertionError("the block has begun")


T, E = 10, 16  # steps, and numbers of each
ATTENTION = T * 4 * E * E + 2 * T * T * E  # linear layers before and behind, and two products


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.MultiheadAttention(E, 4, batch_first=True)

    def forward(self, x):
        return self.heads(x, x, x, need_weights=False)


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        pytest.param(Attending, ATTENTION, id="attention"),
        pytest.param(
            lambda: nn.TransformerEncoderLayer(E, 4, 32, batch_first=True),
            ATTENTION + 2 * T * E * 32,
            id="transformer",
        ),
        pytest.param(lambda: nn.LSTM(E, 8, batch_first=True), T * 32 * (E + 8), id="lstm"),
    ],
)
def test_layers_whose_inference_torch_leaves_out_are_counted(layer, wanted, inference):
    with torch.set_grad_enabled(not inference), FlopCounter() as counter:
        layer().eval()(torch.randn(1, T, E))
    assert counter.get_total_flops() == 2 * wanted
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_convolution_with_one_axis_takes_that_one_s_choices():
    net = nn.Sequential(VaRedConv3d(3, 8, 1, dynamic=dict(axes=("time",)))).eval()
    for choices in ((1, 0, 0, 1), (0, 1), {"0": (0, 1)}):
        with forced_gates(net, choices), record_cost(net) as record:
            net(torch.randn(1, 3, 4, 5, 5))
        assert record.share(1).item() == 0.5


def test_choices_by_name_are_of_each_convolution():
    net = nn.Sequential(VaRedConv3d(3, 8, 1), VaRedConv3d(8, 8, 1))
    choices = {"0": (1, 0, 1, 0)}
    with pytest.raises(DynamicError, match="forced on 1; wanted"), forced_gates(net, choices):
        raise AssertionError("the block has begun")
