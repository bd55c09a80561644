"""Passes of a prepared model that were made before are repeated, and answer as the first did."""

import threading
from unittest.mock import Mock

import pytest
import torch
from prepared import assert_close, assert_close_by_choices, lively
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.fast import prepare_for_inference, recorded
from vared_mm.fast.recorded import Recorded
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.errors import DynamicError
from vared_mm.method.layer import group_by_pattern
from vared_mm.method.observe import Look, dynamic_convs, forced_gates, record_cost


class Net(nn.Module):
    """Convolutions of ours and of oneDNN, pooling, operations of torch, several answers."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv3d(3, 16, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(16)
        self.first = nn.Conv3d(16, 32, 3, padding=1)
        self.second = nn.Conv3d(32, 24, 1)
        self.pool = nn.MaxPool3d(3, 1, 1)
        self.last = nn.Conv3d(16, 24, 3, padding=1)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        y = self.second(self.first(x).relu())
        return torch.cat([y, self.last(self.pool(x))], 1), y.mean((2, 3, 4))


def made(net=Net, precision="float32", **settings):
    torch.manual_seed(0)
    model = net()
    make_dynamic(model, DynamicConfig(**{"targets": "first|second", "search_space": 2} | settings))
    x = torch.randn(1, 3, 4, 9, 9)
    lively(model, torch.cat([x, 2 * x, x + 1]))
    return model, prepare_for_inference(model, x, precision=precision), x


def key(x, asks=False):
    return asks, (False, False, torch.bfloat16), (x.shape, x.stride(), x.dtype)


def passes(prepared):
    """Counts those that are made by the graph."""
    made = prepared.forward.recorded
    made.function = Mock(wraps=made.function)
    return made.function


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.no_grad()
def test_one_that_was_made_before_does_the_same_without_the_graph(precision):
    _, prepared, x = made(precision=precision)
    expected = [prepared.forward.run_as_maps(x * scale) for scale in (1.0, 0.5, -2.0)]
    prepared(x)
    count = passes(prepared)
    for scale, answers in zip((1.0, 0.5, -2.0), expected, strict=True):
        first, second = prepared(x * scale), prepared(x * scale)
        for a, b, c in zip(answers, first, second, strict=True):
            assert torch.equal(a, b)
            assert torch.equal(b, c)
            assert b.data_ptr() != c.data_ptr()
            assert a.stride() == b.stride()
    # Where the gates choose otherwise for another scale.
    assert count.call_count <= 2


CHANNEL, TIME = ((0.7, 0), (0, 0.6), (0.5, 0.4)), ((0.9, 0), (0, 0.8), (0.3, 0.2))
WAYS = [(*channel, *time) for channel in CHANNEL for time in TIME]


@torch.no_grad()
def test_each_choice_is_a_way_of_its_own():
    model, prepared, x = made()
    count = passes(prepared)
    for i in range(3):
        for way, other in zip(WAYS, (*WAYS[4:], *WAYS[:4]), strict=True):
            for second in (way, other):
                choices = {"first": way, "second": second}
                with forced_gates(model, choices), forced_gates(prepared, choices):
                    assert_close(prepared(x + i), model(x + i))
    # What the preparation compares is known already.
    assert 14 <= count.call_count <= 18


SHARED = {"own": dict(share="conv"),
          "the block's": dict(share="block", targets=r"(?P<block>)(first|second)")}  # fmt: skip


@pytest.mark.parametrize("settings", SHARED.values(), ids=SHARED)
@torch.no_grad()
def test_gates_that_nobody_looks_at_decide_in_each_pass(settings):
    model, prepared, x = made(**settings)
    torch.manual_seed(1)
    clips = [scale * torch.randn_like(x) + scale for scale in (-4, -2, -0.5, 0.5, 2, 4) * 2]
    with record_cost(model) as record:
        expected = [model(clip) for clip in clips]
    ways = {tuple(seen.gates[0].gt(0).tolist()) for seen in record.seen if seen.name == "first"}
    assert len(ways) > 1
    count = passes(prepared)
    for _ in range(2):
        for clip, answer in zip(clips, expected, strict=True):
            assert_close(prepared(clip), answer)
    assert count.call_count <= 12
    assert prepared.forward.recorded._first[key(x)] is not None


@torch.no_grad()
def test_choices_that_are_too_many_are_left_to_the_graph(monkeypatch):
    monkeypatch.setattr(recorded, "WAYS", 6)
    model, prepared, x = made()
    for i in range(2):
        for way in WAYS:
            with forced_gates(model, way), forced_gates(prepared, way):
                assert_close(prepared(x + i), model(x + i))
    assert prepared.forward.recorded._first[key(x, asks=True)] is None


@torch.no_grad()
def test_a_gates_hook_is_called_once_in_each_pass_a_new_one_too():
    _, prepared, x = made(share="conv")
    seen = []
    hooks = [Look(conv.gate, lambda gate, args, out: seen.append(args[0].shape))
             for conv in dynamic_convs(prepared).values()]  # fmt: skip
    for way in ((0.7, 0, 0.9, 0), (0.7, 0, 0.9, 0), (0, 0.6, 0.3, 0.2), (0.7, 0, 0.9, 0)):
        with forced_gates(prepared, {"first": way, "second": (0.5, 0.5, 0, 1)}):
            seen.clear()
            prepared(x)
            assert seen == [(1, 16, 4, 9, 9), (1, 32, 4, 9, 9)]
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def test_costs_are_recorded_of_each_pass_alike():
    model, prepared, x = made()
    costs = []
    for net in (model, prepared, prepared):
        with record_cost(net) as record:
            net(x)
        costs.append([(seen.name, seen.gates.round(decimals=4).tolist()) for seen in record.seen])
    assert costs[0] == costs[1] == costs[2]


@torch.no_grad()
def test_a_hook_on_anything_else_is_called_in_each_pass():
    _, prepared, x = made()
    prepared(x)
    seen = []
    for module in (prepared.stem, prepared.first, prepared.pool, prepared.norm):
        handle = module.register_forward_hook(lambda *args: seen.append(args[0]))
        prepared(x)
        prepared(x)
        handle.remove()
        assert seen == 2 * [module]
        seen.clear()


@pytest.mark.parametrize("asks", [False, True])
@torch.no_grad()
def test_samples_that_choose_differently_are_answered_each_by_itself(asks):
    model, prepared, x = made()
    looks = [Look(prepared.first.gate, lambda *args: None)] if asks else []
    torch.manual_seed(1)
    clips = torch.cat([scale * torch.randn_like(x) + scale for scale in (-4, -2, 2, 4)])
    with record_cost(model) as record:
        model(clips)
    assert any(len({tuple(row) for row in seen.gates.gt(0).tolist()}) > 1 for seen in record.seen)
    prepared(clips)
    count = passes(prepared)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [0, 2, 2, 0]):
        assert_close(prepared(clips[order]), model(clips[order]))
    assert count.call_count <= 1
    for look in looks:
        look.remove()


ALIKE, MIXED = ((0.7, 0, 0.9, 0),) * 3, ((0.7, 0, 0.9, 0), (0, 0.6, 0, 0.8), (0.5, 0.4, 0.3, 0.2))


@pytest.mark.parametrize("order", [(ALIKE, MIXED, ALIKE), (MIXED, ALIKE, MIXED)])
@torch.no_grad()
def test_alike_or_not_each_sample_gets_what_it_chose(order):
    model, prepared, x = made()
    clips = torch.cat([x, 2 * x, x + 1])
    for rows in order:
        looks = [Look(conv.gate, lambda *args, rows=rows: torch.tensor(rows), prepend=True)
                 for net in (model, prepared) for conv in dynamic_convs(net).values()]  # fmt: skip
        assert_close(prepared(clips), model(clips))
        for look in looks:
            look.remove()


@torch.no_grad()
def test_samples_that_choose_alike_are_repeated_together():
    model, prepared, x = made()
    clips = torch.cat([-3 * x, x, 4 * x + 1])
    with forced_gates(model, (1, 0, 0, 1)), forced_gates(prepared, (1, 0, 0, 1)):
        prepared(clips)
        count = passes(prepared)
        assert_close(prepared(clips + 1), model(clips + 1))
    assert count.call_count == 0


@torch.no_grad()
def test_a_gate_that_is_nan_is_refused_in_a_repeated_pass_too():
    _, prepared, x = made()
    prepared(x)
    hook = Look(prepared.second.gate, lambda gate, args, out: out * torch.nan)
    with pytest.raises(DynamicError, match="NaN"):
        prepared(x)
    hook.remove()
    prepared(x)


@torch.no_grad()
def test_sizes_take_turns_and_many_do_not_fill_the_memory():
    model, prepared, x = made()
    for _ in range(2):
        for height in range(3, 24):
            clip = x[:, :, :, :1].expand(-1, -1, -1, height, -1)
            assert_close(prepared(clip), model(clip))
    assert len(prepared.forward.recorded._first) <= recorded.LAYOUTS == 16


@torch.no_grad()
def test_threads_share_what_was_recorded():
    model, prepared, x = made()
    clips = [x * scale for scale in (0.5, 1.0, 2.0, 3.0)]
    expected, wrong = [model(clip) for clip in clips], []

    def predict(i):
        for _ in range(20):
            for a, b in zip(prepared(clips[i]), expected[i], strict=True):
                if (a - b).abs().max() > 1e-4 * b.abs().max():
                    wrong.append(i)

    together = [threading.Thread(target=predict, args=(i,)) for i in range(4)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert not wrong


@torch.no_grad()
def test_what_another_thread_forgets_meanwhile_is_recorded_anew():
    def function(x):
        repeated._ways.clear()
        return x + 1

    repeated, x = Recorded(function), torch.randn(3)
    assert torch.equal(repeated(x), x + 1)
    assert torch.equal(repeated(x), x + 1)


@torch.no_grad()
def test_maps_are_let_go_when_nobody_reads_them():
    _, prepared, x = made()
    clip = x.repeat(1, 1, 1, 4, 4)
    prepared(clip)
    path = prepared.forward.recorded._first[key(clip)]
    tensors, alive = {0: clip}, []
    while True:
        for step in path.steps:
            step(tensors)
            # Numbers for each pixel of the clip.
            alive.append(sum(v.numel() for n, v in tensors.items() if n) / clip[0, 0].numel())
            for number in step.last:
                del tensors[number]
        if path.gates is None:
            break
        path = path.after[next(iter(group_by_pattern(tensors[path.gates].tolist())))]
    made_of_all = 3 + 16 + 16 + 32 + 24 + 24 + 48
    assert max(alive) < made_of_all - 30


@torch.no_grad()
def test_what_counts_operations_sees_them():
    _, prepared, x = made()
    prepared(x)
    with FlopCounterMode(display=False) as first:
        prepared(x)
    with FlopCounterMode(display=False) as second:
        prepared(x)
    assert first.get_total_flops() == second.get_total_flops() > 0


FORMS = {
    "a part": lambda x: x[..., 1:],
    "turned": lambda x: x.transpose(3, 4),
    "negated": torch._neg_view,
    "one for all": lambda x: x[:, :, :1].expand(-1, -1, 4, -1, -1),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@torch.no_grad()
def test_views_of_inputs_are_read_as_they_lie(form):
    model, prepared, x = made()
    for i in range(3):
        assert_close(prepared(form(x + i)), model(form(x + i).clone()))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_modes_in_which_a_pass_is_first_made_change_nothing(mode):
    model, prepared, x = made()
    model.requires_grad_(False)
    for height in (9, 7):
        with mode():
            assert_close_by_choices(model, prepared, x[..., :height, :])
        for again in (torch.inference_mode, torch.no_grad, torch.enable_grad):
            with again():
                assert_close_by_choices(model, prepared, x[..., :height, :])
    assert None not in prepared.forward.recorded._first.values()


@torch.no_grad()
def test_autocast_around_a_pass_lasts_as_long_as_that():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Flatten(), nn.Linear(400, 5)).eval()
    prepared = prepare_for_inference(model, torch.randn(2, 3, 5, 5), precision="float32")
    x = torch.randn(1, 3, 5, 5)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            assert prepared(x).dtype == torch.bfloat16
        assert_close(prepared(x), model(x))


def test_a_gradient_is_refused_where_passes_were_made_without_one():
    model = nn.Sequential(nn.Linear(5, 5), nn.Conv2d(3, 16, 1)).eval()
    x = torch.randn(1, 3, 5, 5)
    prepared = prepare_for_inference(model, x, precision="float32")
    with torch.no_grad():
        prepared(x)
    prepared.requires_grad_(True)
    with pytest.raises(RuntimeError, match="no gradient passes a prepared convolution"):
        prepared(x)


class Doubled(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        return 2 * answer if function is torch.cat else answer


@torch.no_grad()
def test_a_mode_that_changes_functions_changes_them():
    _, prepared, x = made()
    prepared(x)
    joined, means = prepared(x)
    with Doubled():
        twice, same = prepared(x)
    assert torch.equal(twice, 2 * joined)
    assert torch.equal(same, means)
