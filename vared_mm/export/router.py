"""Which of several policies a clip is for, told by what the first gate sees.

Deeper gates see maps that depend on what was chosen before them. Known before any choice is the
input X of the first dynamic convolution, so that a router reads each of its channels' mean, and
their mean absolute difference between frames that follow each other:

    policy = argmax( W · (G(X) - m) / s + b )

W and b by logistic regression on the policies that clips chose; m and s are the mean and the
deviation of their G(X).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vared_mm.fast.engines import Network
from vared_mm.method.gate import pooled_maps
from vared_mm.method.surgery import exchange

# How much W is kept small: there may be more channels than clips.
RIDGE = 1e-3


class Router(nn.Module):
    """(N, C, [T,] H, W) to (N,), the number of a policy.

    Args:
        network: Plain, without what comes after the convolution `first`, as `up_to` makes it.
        weight, bias: (policies, features), (policies,) for the features as they are.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, network: Network, first: str, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network, self.first = network, first
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x).argmax(1)

    def scores(self, x: Tensor) -> Tensor:
        return F.linear(seen_by_first(self.network, self.first, x), self.weight, self.bias)


def seen_by_first(network: Network, first: str, x: Tensor) -> Tensor:
    """(N, 2 · C of its input)."""
    seen: list[Tensor] = []

    def look(conv: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(pooled_maps(args[0], torch.float32, change=True))

    # Nothing ends the pass here: an exception on its way out confuses torch's exporter.
    handle = network.model.get_submodule(first).register_forward_pre_hook(look)
    try:
        network(x)
    finally:
        handle.remove()
    # Of 2-D networks that take frames for samples.
    return seen[0].unflatten(0, (x.shape[0], -1)).mean(1)


@torch.no_grad()
def up_to(network: Network, first: str, clip: Tensor) -> Network:
    """A copy without weights from the convolution `first` on: what has some answers zeros there."""
    new = copy.deepcopy(network)
    before, after = set[int](), dict[int, nn.Module]()
    own = new.model.get_submodule(first)

    def note(module: nn.Module, args: tuple, answer: Tensor) -> None:
        if module is own or after:
            after[id(module)] = Zeros(answer.shape[1:])
        else:
            before.add(id(module))

    weighted = [m for m in new.modules() if any(True for _ in m.parameters(recurse=False))]
    handles = [m.register_forward_hook(note) for m in weighted]
    new(clip)
    for handle in handles:
        handle.remove()
    exchange(new, {key: made for key, made in after.items() if key not in before})
    return new


class Zeros(nn.Module):
    """In the place of a module whose answer nobody needs; `size` of it, without the batch."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], *self.size)


@torch.no_grad()
def router(network: Network, first: str, clips: Sequence[Tensor], policies: Tensor) -> Router:
    """
    Args:
        network: Plain.
        first: The name of its first convolution that was dynamic.
        policies: (clips,) which of them each clip is for.
    """
    stem = up_to(network, first, clips[0])
    features = torch.cat([seen_by_first(stem, first, clip) for clip in clips])
    return Router(stem, first, *logistic(features, policies)).eval()


def logistic(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """W (classes, features) and b (classes,) of least cross entropy, in the units of `features`."""
    x = features.double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-6 * mean.abs(), scale, torch.inf)  # What never changes.
    x = (x - mean) / scale
    with torch.enable_grad():
        weight = x.new_zeros(int(labels.max()) + 1, x.shape[1], requires_grad=True)
        bias = x.new_zeros(len(weight), requires_grad=True)
        solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            own = F.cross_entropy(F.linear(x, weight, bias), labels)
            own = own + RIDGE * weight.square().sum()
            own.backward()
            return own

        solver.step(loss)
    weight = weight.detach() / scale
    return weight.float(), (bias.detach() - weight @ mean).float()
