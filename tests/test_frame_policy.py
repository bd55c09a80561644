"""AR-Net's choices, by hand: what a skip leaves out, what choices cost, how even their use is."""

import math

import pytest
import torch
from torch import nn

from vared_mm.rivals.frame_policy import FramePolicy, FrameRecord, rows_of, temperature, uneven_use

LARGE, SMALL, SKIP1, SKIP2, SKIP4 = range(5)


class Sum(nn.Module):
    """In the LSTM's place: its state is the sum of what it saw."""

    def forward(self, x, state=None):
        total = x if state is None else x + state[0]
        return total, total


def one_hot(*clips):
    return torch.eye(5)[torch.tensor(clips)]


def policy_of_scores():
    """A policy that scores its actions by the sum of the frames it saw."""
    policy = FramePolicy(5, 5, sizes=2, skips=(1, 2, 4))
    policy.cell, policy.scores = Sum(), nn.Identity()
    return policy


def wanting(*actions):
    """(1, T, 5) frames whose sums have their largest number at these actions, one after another."""
    sums = 3 * torch.eye(5)[list(actions)]
    return torch.diff(sums, dim=0, prepend=torch.zeros(1, 5))[None]


def test_a_skip_of_k_leaves_out_its_frame_and_the_next_k_minus_1():
    policy = policy_of_scores()
    frames = torch.zeros(1, 8, 5)
    frames[0, 0, LARGE], frames[0, 1, SKIP4], frames[0, 5, SKIP2], frames[0, 7, SMALL] = 1, 2, 3, 9
    choices = policy(frames)[0].argmax(1).tolist()
    assert choices == [LARGE, *[SKIP4] * 4, SKIP2, SKIP2, SMALL]


def test_what_stands_in_skipped_frames_moves_nothing():
    policy = policy_of_scores()
    frames = torch.zeros(1, 8, 5)
    frames[0, 0, LARGE], frames[0, 1, SKIP4], frames[0, 5, SMALL] = 1, 2, 3
    other = frames.clone()
    other[0, 2:5] = 100 * torch.randn(3, 5)
    assert torch.equal(policy(frames), policy(other))
    other[0, 5, LARGE] = 100
    assert not torch.equal(policy(frames), policy(other))


def test_the_first_frame_is_not_skipped_however_much_a_skip_is_wanted():
    policy = policy_of_scores()
    frames = wanting(SKIP4, SKIP1, SKIP1)
    frames[0, 0, SMALL] += 0.5
    assert policy(frames)[0].argmax(1).tolist() == [SMALL, SKIP1, SKIP1]
    for seed in range(50):
        torch.manual_seed(seed)
        drawn = policy(torch.randn(4, 9, 5) + 5 * torch.eye(5)[SKIP4], tau=5.0)
        assert (drawn[:, 0, :2].sum(1) == 1).all()
        assert torch.equal(drawn.sum(2).round(), torch.ones(4, 9))


def test_clips_of_a_batch_do_not_disturb_each_other():
    policy = FramePolicy(3, 6, sizes=2, skips=(1, 2))
    frames = 9 * torch.randn(20, 7, 3, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([policy(one[None]) for one in frames])
    assert torch.equal(policy(frames), alone)
    assert len({tuple(one.argmax(1).tolist()) for one in alone}) > 3


def test_a_draw_passes_a_gradient_to_the_scores_of_all_actions():
    policy = policy_of_scores()
    frames = torch.zeros(1, 3, 5, requires_grad=True)
    costs = torch.tensor([4.0, 0.0, 0.0, 0.0, 1.0])
    (policy(frames, tau=1.0)[:, 2] * costs).sum().backward()
    # Where a skip holds the frame the choice is the skip's; the last one that chose has it.
    assert (frames.grad.abs().sum((0, 1)) > 0).all()


def test_the_temperature_falls_from_5_by_4_and_a_half_percent_an_epoch():
    assert temperature(0) == 5
    assert temperature(10) == pytest.approx(5 / math.e**0.45)
    assert temperature(100) == pytest.approx(0.0555, abs=1e-4)


def test_use_that_is_even_costs_nothing_and_that_of_two_of_three_the_root_of_a_sixth():
    even = torch.eye(3)[None]
    assert uneven_use(even) == 0
    two = torch.eye(3)[[0, 1, 1, 0]][None]
    assert uneven_use(two).item() == pytest.approx(math.sqrt(1 / 6))


def test_the_rows_of_a_size_are_the_frames_that_chose_it():
    choices = one_hot([LARGE, SKIP1, SMALL], [SMALL, SMALL, LARGE])
    large, small = rows_of(choices, 2)
    assert (large.tolist(), small.tolist()) == ([0, 5], [2, 3, 4])


def test_the_record_tells_each_clip_what_its_frames_cost_and_what_all_at_the_largest_size_would():
    record = FrameRecord(macs=[100.0, 7.0, 0.0, 0.0, 0.0])
    record.choices.append(one_hot([LARGE, SKIP1, SMALL], [SMALL, SKIP2, SKIP2]))
    table = record.per_layer(2)
    assert record.names == ["backbones"]
    assert table["dense"].tolist() == [[300], [300]]
    assert table["paper"].tolist() == table["full"].tolist() == [[107], [7]]
    # Two views of one sample belong together.
    assert record.per_layer(1)["full"].tolist() == [[114]]
    assert record.per_layer(1)["dense"].tolist() == [[600]]
