"""φ, the floor, the leak; the gate's start; one gate for a block."""

import copy
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.method import DynamicConfig, DynamicError
from vared_mm.method.gate import (
    DECIDE,
    BlockGate,
    FollowerGate,
    Gate,
    decide_by_definition,
    pooled_maps,
    soft_gate,
)


def test_a_gate_is_tanh_above_zero_and_zero_below():
    v = soft_gate(torch.tensor([[0.5, -0.3], [-2.0, 1.0]]), floor=0.01, leak=0.1)
    expected = [[math.tanh(0.5), 0.0], [0.0, math.tanh(1.0)]]
    torch.testing.assert_close(v, torch.tensor(expected))


def test_with_all_closed_the_largest_opens_at_the_floor_for_that_sample_alone():
    z = torch.tensor([[-0.5, -0.1, -3.0], [0.2, -0.1, -3.0]])
    v = soft_gate(z, floor=0.01, leak=0.1)
    torch.testing.assert_close(v, torch.tensor([[0, 0.01, 0], [math.tanh(0.2), 0, 0]]))


@pytest.mark.parametrize("kind", ["training", "kernel", "definition"])
def test_where_tanh_is_the_same_for_all_the_largest_number_before_it_opens(kind):
    gate = Gate(5, 2, DynamicConfig(search_space=3)).train(kind == "training")
    gate.beta.data = torch.tensor([-14.0, -12, -10, -11, -20, -19])
    x, told = torch.randn(2, 5, 4, 4), (*gate.parameters_read(), *gate.settings_read())
    v = decide_by_definition(x, *told) if kind == "definition" else gate(x)
    torch.testing.assert_close(v, torch.tensor([[0, 0, 0.01, 0.01, 0, 0]]).expand(2, 6))


def test_a_closed_gate_passes_a_tenth_of_tanh_s_gradient_and_forward_stays_exact():
    z = torch.tensor([[0.5, -0.5], [-0.5, -0.7]], requires_grad=True)
    v = soft_gate(z, floor=0.01, leak=0.1)
    v.sum().backward()
    slope = 1 - torch.tanh(z.detach()) ** 2
    torch.testing.assert_close(z.grad, slope * torch.tensor([[1, 0.1], [0.1, 0.1]]))
    torch.testing.assert_close(v, soft_gate(z.detach(), 0.01, 0.0), rtol=0, atol=0)


def test_nan_is_neither_closed_nor_replaced_by_the_floor():
    assert soft_gate(torch.tensor([[torch.nan, torch.nan]]), 0.01, 0.1).isnan().all()


@pytest.mark.parametrize("training", [True, False])
def test_every_sample_begins_with_the_bias_whatever_its_input(training):
    gate = Gate(5, 2, DynamicConfig(gate_bias=(0.8, 0.3))).train(training)
    v = gate(torch.randn(4, 5, 3, 6, 6))
    start = torch.tanh(torch.tensor([0.8, 0.3, 0.8, 0.3]))
    torch.testing.assert_close(v, start.expand(4, 4))


def test_the_decision_is_made_in_float32_under_autocast():
    gate = Gate(5, 1, DynamicConfig())
    nn.init.normal_(gate.weight2)
    gate.eval()
    x = torch.randn(4, 5, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        under = gate(x)
    assert under.dtype == torch.float32
    assert torch.equal(under, gate(x))


def test_maps_without_numbers_are_counted_in_training_too():
    gate = Gate(5, 1, DynamicConfig()).to("meta")
    with FlopCounterMode(display=False) as counter:
        gate(torch.empty(4, 5, 6, 6, device="meta"))
    assert counter.get_total_flops() == 2 * 4 * gate.macs()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_keeps_its_gates_in_float32(dtype):
    gate = Gate(5, 2, DynamicConfig()).eval()
    nn.init.normal_(gate.weight2)
    # Its sum over 8 x 56 x 56 pixels is twice the largest number of float16.
    x = (torch.rand(2, 5, 8, 56, 56) + 5).to(dtype)
    wanted, cast = gate(x.float()), copy.deepcopy(gate).to(dtype)
    assert {v.dtype for v in cast.state_dict().values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(cast(x), wanted)
    assert Gate(5, 2, DynamicConfig()).double().weight1.dtype == torch.float64


def test_a_checkpoint_of_half_precision_leaves_the_gate_in_float32():
    gate = Gate(4, 1, DynamicConfig())
    half = {k: v.half() if v.is_floating_point() else v for k, v in gate.state_dict().items()}
    gate.load_state_dict(half, assign=True)
    assert {p.dtype for p in gate.parameters()} == {torch.float32}
    gate = pickle.loads(pickle.dumps(gate)).eval()
    # The sum of 100 pixels of 1000 is above all that float16 holds.
    assert gate(torch.full((1, 4, 10, 10), 1000.0, dtype=torch.float16)).isfinite().all()


def test_one_sample_moves_the_running_statistics_as_an_exponential_average():
    gate = Gate(1, 1, DynamicConfig(gate_hidden=1)).train()
    nn.init.ones_(gate.weight1)
    gate(torch.full((1, 1, 2, 2), 5.0))
    # From mean 0 and variance 1, a tenth of the way: 0.1 * 5, 0.9 * (1 + 0.1 * 25).
    assert gate.norm.running_mean.item() == pytest.approx(0.5)
    assert gate.norm.running_var.item() == pytest.approx(3.15)
    assert gate.norm.num_batches_tracked.item() == 1
    x = torch.randn(1, 1, 2, 2, requires_grad=True)
    (gate(x) + gate(x)).sum().backward()


def compiled(gate, x):
    torch.compiler.reset()
    return torch.compile(gate)(x)


def twice(gate, x):
    """As where convolutions of two inputs share one."""
    return gate(x) + gate(2 * x + 1)


def once(gate, x):
    return gate(x)


def with_checkpointing(function):
    return lambda gate, x: checkpoint(function, gate, x, use_reentrant=False)


@pytest.mark.parametrize(
    ("run", "plainly"),
    [(with_checkpointing(once), once), (with_checkpointing(twice), twice), (compiled, once)],
    ids=["checkpointing", "checkpointing two at once", "compiled"],
)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_one_sample_has_the_same_gradients_where_the_backward_pass_computes_parts_again(
    run, plainly, momentum
):
    torch.manual_seed(0)
    gate = Gate(8, 2, DynamicConfig()).train()
    gate.norm.momentum = momentum
    nn.init.normal_(gate.weight2)
    x, weights = torch.randn(1, 8, 3, 4, 4), torch.randn(1, 4)
    other = copy.deepcopy(gate)
    for own, asks in ((gate, plainly), (other, run)):
        (asks(own, x) * weights).sum().backward()
    for plain, again in zip(gate.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(again.grad, plain.grad)
    # It learned as often.
    for plain, again in zip(gate.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(again, plain)


def test_a_sample_that_comes_again_and_again_is_learned_from_each_time():
    gate = Gate(1, 1, DynamicConfig(gate_hidden=1)).train()
    nn.init.ones_(gate.weight1)
    for _ in range(50):
        gate(torch.full((1, 1, 2, 2), 5.0))
    assert gate.norm.running_mean.item() == pytest.approx(5 * (1 - 0.9**50))


def test_one_sample_learns_the_statistics_of_the_data():
    gate = Gate(1, 1, DynamicConfig(gate_hidden=1)).train()
    nn.init.ones_(gate.weight1)
    torch.manual_seed(0)
    for value in 5 + 2 * torch.randn(4000):
        gate(value.view(1, 1, 1, 1))
    assert gate.norm.running_mean.item() == pytest.approx(5, abs=1.5)
    assert gate.norm.running_var.item() == pytest.approx(4, abs=3)


@pytest.mark.parametrize("kind", ["synchronised", "reverted"])
def test_a_norm_that_was_exchanged_takes_one_sample_too(kind):
    gate = nn.SyncBatchNorm.convert_sync_batchnorm(Gate(3, 1, DynamicConfig())).train()
    if kind == "reverted":
        gate = revert_sync_batchnorm(gate)
    assert gate(torch.ones(1, 3, 2, 2)).shape == (1, 2)


def test_initialisers_that_visit_modules_by_type_leave_the_gate_s_start_alone():
    gate = Gate(5, 1, DynamicConfig())
    assert not [m for m in gate.modules() if isinstance(m, nn.Linear | nn.Conv3d)]


def test_macs_are_those_of_the_two_linear_layers():
    assert Gate(64, 2, DynamicConfig(search_space=3)).macs() == 64 * 16 + 16 * 6


def block(followers=2):
    leader = BlockGate(4, 1, DynamicConfig(search_space=2))
    return leader, [FollowerGate(leader) for _ in range(followers)]


def test_followers_read_the_leader_s_answer_and_nothing_stays_behind():
    leader, followers = block()
    x = torch.randn(3, 4, 5, 5)
    answer = leader(x)
    for follower in followers:
        assert torch.equal(follower(torch.randn(3, 9, 2, 2)), answer)
    assert not list(followers[0].parameters())
    with pytest.raises(DynamicError, match="ran before the block's first one"):
        followers[0](x)


def test_a_follower_without_its_leader_s_answer_says_so():
    _, (follower, _) = block()
    with pytest.raises(DynamicError, match="ran before the block's first one"):
        follower(torch.randn(3, 4, 5, 5))


def test_a_follower_with_another_batch_says_so():
    leader, (follower, _) = block()
    leader(torch.randn(3, 4, 5, 5))
    with pytest.raises(DynamicError, match="decided for 3 samples, this convolution got 2"):
        follower(torch.randn(2, 4, 5, 5))


def test_threads_that_pass_the_same_block_at_once_each_read_their_own_answer():
    leader, (follower, other) = block()
    nn.init.normal_(leader.weight2, std=3)
    leader.eval()
    clips = [torch.randn(1, 4, 5, 5) for _ in range(2)]
    expected = [Gate.forward(leader, x) for x in clips]
    assert not torch.equal(*expected)
    both_asked = threading.Barrier(2, timeout=30)

    def decide(x):
        leader(x)
        both_asked.wait()
        return follower(x), other(x)

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(decide, clips))
    for own, wanted in zip(answers, expected, strict=True):
        assert all(torch.equal(answer, wanted) for answer in own)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_made_in_the_middle_of_a_pass_knows_nothing_of_it(copied):
    leader, followers = block()
    pair = nn.ModuleList([leader, *followers])
    x = torch.randn(3, 4, 5, 5)
    answer = leader(x)
    own_leader, own, _ = copied(pair)
    with pytest.raises(DynamicError, match="ran before the block's first one"):
        own(x)
    assert torch.equal(own_leader(x), answer)
    assert torch.equal(own(x), answer)
    assert torch.equal(followers[0](x), answer)


@torch.no_grad()
def test_a_gate_may_see_change_between_frames():
    x = torch.tensor([[0.0, 1.0, 4.0], [2.0, 2.0, -1.0]]).view(1, 2, 3, 1, 1).expand(1, 2, 3, 2, 2)
    pooled = pooled_maps(x, torch.float32, change=True)
    # Means of (0, 1, 4) and (2, 2, -1), then of (1, 3) and (0, 3).
    assert pooled.tolist() == [pytest.approx([5 / 3, 1.0, 2.0, 1.5])]
    gate = Gate(2, 2, DynamicConfig(pool="change"))
    assert gate.weight1.shape == (16, 4)
    assert gate.macs() == 16 * 4 + 4 * 16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_change_between_frames_is_not_rounded_to_half_precision(dtype):
    # Numbers of both types, and their difference is one of neither.
    x = torch.tensor([256, 129 / 128], dtype=dtype).view(1, 1, 2, 1, 1)
    assert pooled_maps(x, torch.float32, change=True)[0, 1] == 256 - 129 / 128


@pytest.mark.parametrize("v", [1e-3, 1e-38, -1e-3])
def test_the_gradient_of_normalised_gates_that_are_nearly_closed_is_that_of_the_floor(v):
    z = torch.tensor([[v, -0.3]], requires_grad=True)
    answer = soft_gate(z, 0.01, 0.1, normalised=True)
    assert answer.tolist() == [[1, 0]]
    (gradient,) = torch.autograd.grad(answer[0, 1], z)
    # A tenth of tanh's, by 0.01.
    assert gradient.tolist() == [[0, pytest.approx(10 * (1 - math.tanh(0.3) ** 2))]]


def test_normalised_gates_of_an_axis_add_up_to_one_with_their_gradient():
    z = torch.tensor([[[0.8, 0.3], [-1.0, 0.5], [-1.0, -2.0]]], dtype=torch.double)
    z.requires_grad_()
    v = soft_gate(z, 0.01, 0.1, normalised=True)
    a, b = math.tanh(0.8), math.tanh(0.3)
    wanted = torch.tensor([[[a / (a + b), b / (a + b)], [0, 1], [1, 0]]], dtype=torch.double)
    torch.testing.assert_close(v, wanted)
    (gradient,) = torch.autograd.grad(v[0, 0, 0], z)
    slope = b / (a + b) ** 2, -a / (a + b) ** 2
    for i, value in enumerate((a, b)):
        assert gradient[0, 0, i].item() == pytest.approx(slope[i] * (1 - value**2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.filterwarnings("ignore")
def test_torch_finds_the_operator_as_it_wants_it(dtype):
    gate = Gate(6, 2, DynamicConfig()).eval().to(dtype)
    nn.init.normal_(gate.weight2)
    read = [t.detach().to(dtype).requires_grad_(t.requires_grad) for t in gate.parameters_read()]
    plain = [t.detach() for t in read]
    x = torch.randn(3, 6, 2, 4, 4, dtype=dtype).requires_grad_()
    for overload, tensors in zip(DECIDE.overloads, ((x, *read), (x.detach(), *plain)), strict=True):
        good = torch.library.opcheck(overload, (*tensors, *gate.settings_read()))
        assert set(good.values()) == {"SUCCESS"}, good
