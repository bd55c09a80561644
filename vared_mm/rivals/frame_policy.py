"""AR-Net's choices: at which size each frame of a clip is seen, or not at all.

Meng et al., "AR-Net: Adaptive Frame Resolution for Efficient Action Recognition", ECCV 2020.
N clips, T frames, C channels, K classes; A actions: S sizes, the largest first, and the skips. The
network that chooses is that of the smallest size too. Choices are (N, T, A), one of A is 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.method.cost import CostRecord


class FramePolicy(nn.Module):
    """From what is seen of the frames at the smallest size, in their order, to the choices.

    A skip of k leaves out its frame and the k - 1 after it, for which it stands as their choice and
    which do not move the state. The first frame is never skipped: nothing is known before it, and a
    clip without any frame would have neither an answer nor a gradient.

    Args:
        channels: C.
        hidden: Units of the LSTM.
        sizes: S.
        skips: How many frames each skip leaves out.
    """

    lengths: Tensor

    def __init__(self, channels: int, hidden: int, sizes: int, skips: Sequence[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.cell = nn.LSTMCell(channels, hidden)
        self.scores = nn.Linear(hidden, sizes + len(skips))
        self.register_buffer("lengths", torch.tensor([1] * sizes + list(skips)), persistent=False)

    def forward(self, frames: Tensor, tau: float | None = None) -> Tensor:
        """(N, T, C) to (N, T, A).

        Args:
            tau: Temperature at which a choice is drawn, straight through; None takes the likeliest.
        """
        first, *others = frames.unbind(1)
        state = self.cell(first)
        choice = chosen(self.scores(state[0])[:, : self.sizes], tau)
        choice = F.pad(choice, (0, len(self.lengths) - self.sizes))
        choices, left = [choice], torch.zeros_like(choice[:, :1])
        for frame in others:
            new = self.cell(frame, state)
            held = left > 0
            state = (torch.where(held, state[0], new[0]), torch.where(held, state[1], new[1]))
            choice = torch.where(held, choice, chosen(self.scores(new[0]), tau))
            begun = (choice.detach() * self.lengths).sum(1, keepdim=True)
            left = torch.where(held, left, begun) - 1
            choices.append(choice)
        return torch.stack(choices, 1)


def chosen(scores: Tensor, tau: float | None) -> Tensor:
    """(N, A) scores to one 1 a row."""
    scores = scores.float()
    if tau is not None:
        return F.gumbel_softmax(scores, tau, hard=True)
    return F.one_hot(scores.argmax(1), scores.shape[1]).to(scores.dtype)


def temperature(epoch: float) -> float:
    """τ of the Gumbel softmax."""
    return 5.0 * math.exp(-0.045 * epoch)


def uneven_use(choices: Tensor) -> Tensor:
    """‖usage - mean usage‖₂ of the A actions over all frames."""
    usage = choices.mean((0, 1))
    return (usage - usage.mean()).norm()


def rows_of(choices: Tensor, sizes: int) -> list[Tensor]:
    """Of each size, which of the N·T frames are seen at it."""
    return [one.nonzero().squeeze(1) for one in choices.flatten(0, 1).unbind(1)[:sizes]]


@dataclass
class FrameRecord(CostRecord):
    """What was seen of a network that chooses frames, in the terms of dynamic convolutions: its
    backbones are one, whose `dense` is that of all frames at the largest size.

    Args:
        macs: (A,) of one frame.
        choices: Of each pass.
    """

    macs: Sequence[float] = field(kw_only=True)
    choices: list[Tensor] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return ["backbones"]

    def per_layer(self, samples: int) -> dict[str, Tensor]:
        """(samples, 1) each. What the formula tells is what ran."""
        choices = torch.cat(self.choices).detach().double().cpu()
        frames = choices.unflatten(0, (samples, -1)).flatten(1, 2)
        ran = (frames * frames.new_tensor(self.macs)).sum((1, 2))[:, None]
        dense = torch.full_like(ran, frames.shape[1] * self.macs[0])
        return {"dense": dense, "paper": ran, "full": ran}

    def decisions(self, samples: int) -> dict[str, Tensor]:
        """None that a gate of a convolution took."""
        return {}
