"""The soft modulation gate (section 3.3, equation 3): which paths a sample opens, and how wide.

    [V_c, V_t] = φ( W2 · tanh( BatchNorm( W1 · G(X) ) ) + β ),   φ(z) = max(tanh z, 0)

G is each channel's mean, and if `pool="change"` also its mean absolute difference between frames
that follow each other. A gate answers with one tensor (N, G): S numbers in [0, 1) for each of its
axes, channel first. A path is open where its number is above zero. The numbers are independent of
each other, unless `normalised` divides those of an axis by their sum.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from vared_mm.method.config import DynamicConfig
from vared_mm.method.errors import DynamicError
from vared_mm.method.operators import (
    Operator,
    is_exported,
    recomputes,
    wants_torch_alone,
)

HALF = (torch.float16, torch.bfloat16)


def soft_gate(z: Tensor, floor: float, leak: float, normalised: bool = False) -> Tensor:
    """φ over the choices (the last dimension) of one axis; normalised, divided by their sum.

    Forward is exactly max(tanh z, 0), except that the largest choice is opened at `floor` when
    all are closed: a layer that opened nothing would answer with zeros. Backward, a closed choice
    passes `leak` times tanh's gradient, else nothing could ever open it again.
    """
    t = z.tanh()
    # `torch.jit.trace` traces again without gradients, and wants the same graph.
    learns = t.requires_grad and not torch.jit.is_tracing()
    # Without what derivatives carry along, which `passed` brings once.
    value = t.detach() if learns else t
    # The largest keeps its value or takes the floor. NaN is neither open nor closed: it stays,
    # for whoever reads the gate to refuse.
    place = z.argmax(-1, keepdim=True)  # Far below zero, t is -1 for several.
    largest = value.amax(-1, keepdim=True)
    v = value.relu().scatter_(-1, place, torch.where(largest <= 0, floor, largest))
    if learns:
        passed = F.leaky_relu(t, leak)
        v = v + (passed - passed.detach())
    if not normalised:
        return v
    total = v.sum(-1, keepdim=True)
    if not learns:
        return v / total
    # The gradient, (dv - share · dtotal) / total, has no bound where all that is open is nearly
    # closed: there the floor divides it.
    share = (v / total).detach()
    small = (v - share * total) / floor
    passed = torch.where(total < floor, small, v / total.clamp(min=floor))
    return share + (passed - passed.detach())


def autocast_of(x: Tensor) -> str:
    """Whose autocast surrounds it. There is none for maps without numbers."""
    return "cpu" if x.is_meta else x.device.type


def decide_by_definition(x: Tensor, *arguments: Any) -> Tensor:
    """As `decided`, whatever precision surrounds it."""
    with torch.autocast(autocast_of(x), enabled=False):
        return decided(x, *arguments)


def decided(
    x: Tensor,
    weight1: Tensor,
    mean: Tensor,
    var: Tensor,
    scale: Tensor,
    shift: Tensor,
    weight2: Tensor,
    beta: Tensor,
    eps: float,
    axes: int,
    floor: float,
    leak: float,
    change: bool,
    normalised: bool,
) -> Tensor:
    """The gate in evaluation, with its BatchNorm's statistics, weight (`scale`) and bias (`shift`).

    Args:
        x: (N, C, ...).
        weight1: W1 (hidden, C), or (hidden, 2 · C) with `change`.
        weight2: W2 (axes · S, hidden).
        beta: β (axes · S,).
    """
    hidden = F.linear(pooled_maps(x, weight1.dtype, change), weight1)
    hidden = F.batch_norm(hidden, mean, var, scale, shift, False, 0.0, eps).tanh()
    return gates_from(F.linear(hidden, weight2, beta), axes, floor, leak, normalised)


def pooled_maps(x: Tensor, dtype: torch.dtype, change: bool = False) -> Tensor:
    """G(X): each channel's mean (N, C), and with `change` beside it, (N, 2 · C), the mean absolute
    difference between neighbours along the first dimension of its map: T of clips, H of images.
    """
    mean = _mean(x, dtype)
    if not change:
        return mean
    return torch.cat([mean, _mean((x[:, :, 1:].to(dtype) - x[:, :, :-1]).abs(), dtype)], 1)


def _mean(x: Tensor, dtype: torch.dtype) -> Tensor:
    # Divided after: the gradient of `mean` would write a map, that of `sum` is a view. One frame
    # has no neighbour, and no change.
    return x.sum(tuple(range(2, x.ndim)), dtype=dtype) / max(math.prod(x.shape[2:]), 1)


def gates_from(z: Tensor, axes: int, *settings: Any) -> Tensor:
    """(N, G); settings as of `soft_gate`."""
    return soft_gate(z.unflatten(-1, (axes, -1)), *settings).flatten(-2)


def _flops(x: Sequence[int], weight1: Sequence[int], *arguments: Any) -> int:
    """Of the two linear layers."""
    weight2 = arguments[4]
    return 2 * x[0] * (math.prod(weight1) + math.prod(weight2))


DECIDE = Operator(
    "decide(Tensor x, Tensor weight1, Tensor mean, Tensor var, Tensor scale, Tensor shift, "
    "Tensor weight2, Tensor beta, float eps, int axes, float floor, float leak, "
    "bool change, bool normalised) -> Tensor",
    decide_by_definition,
    lambda x, weight1, *arguments: weight1.new_empty(x.shape[0], arguments[5].shape[0]),
    _flops,
)
DECIDE.differentiate(decide_by_definition)


def samples_of(norm: nn.Module, h: Tensor) -> int:
    """Over how many rows the norm takes its statistics in training."""
    if not isinstance(norm, nn.SyncBatchNorm) or not torch.distributed.is_initialized():
        return len(h)
    return len(h) * torch.distributed.get_world_size(norm.process_group)


def moved_by_one(mean: Tensor, var: Tensor, row: Tensor, m: float) -> Tensor:
    """Running statistics (2, C) after one row (C,), as an exponential average has them.

    δ = row - mean,   mean += m·δ,   var = (1 - m)·(var + m·δ²)
    """
    delta = row - mean
    return torch.stack([mean + m * delta, (1 - m) * (var + m * delta.square())])


# For compilers, which do not compute an operator again after the statistics were moved.
MOVED_BY_ONE = Operator(
    "moved_by_one(Tensor mean, Tensor var, Tensor row, float m) -> Tensor",
    moved_by_one,
    lambda mean, *arguments: mean.new_empty(2, len(mean)),
    lambda *arguments: 0,
)
# What norms learned from single rows of late, and the statistics (2, C) after each.
_learned: WeakKeyDictionary[nn.Module, deque[tuple[Tensor, Tensor]]] = WeakKeyDictionary()


@torch.no_grad()
def learn_from_one(norm: _BatchNorm, row: Tensor) -> Tensor:
    """Moves the running statistics by one row (C,), and gives them (2, C).

    Where activation checkpointing computes a pass again, they have learned from it.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    if recomputes():
        known = [moved for own, moved in _learned.get(norm, ()) if torch.equal(own, row)]
        return known[-1] if known else torch.stack([norm.running_mean, norm.running_var])
    norm.num_batches_tracked += 1
    m = 1 / (1 + float(norm.num_batches_tracked)) if norm.momentum is None else norm.momentum
    exported, compiled = is_exported(), torch.compiler.is_compiling()
    move = MOVED_BY_ONE if compiled and not exported else moved_by_one
    moved = move(norm.running_mean, norm.running_var, row, m)
    if not (exported or compiled):
        _learned.setdefault(norm, deque(maxlen=16)).append((row, moved))
    norm.running_mean.copy_(moved[0])
    norm.running_var.copy_(moved[1])
    return moved


def is_plain_norm(norm: nn.Module) -> bool:
    """Whether it does in evaluation what `decide_by_definition` does, and nobody looks at it."""
    return (
        type(norm) is nn.BatchNorm1d
        and not norm.training
        and norm.affine
        # `torch.func.replace_all_batch_norm_modules_` takes them away.
        and norm.running_mean is not None
        and not (norm._forward_hooks or norm._forward_pre_hooks)
    )


class Gate(nn.Module):
    """Decides for `axes` axes of `config.search_space` choices from an input (N, C, ...).

    Its weights are plain parameters, no `nn.Linear`: the toolboxes' initialisers visit modules
    by type and would overwrite a start that matters (the last layer at zero, so that every
    sample begins with the same, mostly full choice).

    They stay in float32 where the model is cast to half precision: a decision is a comparison with
    zero, which rounding would turn over, and a sum over a map overflows float16.
    """

    def __init__(self, in_channels: int, axes: int, config: DynamicConfig) -> None:
        super().__init__()
        self.axes, self.floor, self.leak = axes, config.floor, config.leak
        self.change, self.normalised = config.pool == "change", config.normalised
        hidden, self.start = config.gate_hidden, config.gate_start * axes
        self.weight1 = nn.Parameter(torch.empty(hidden, in_channels * (1 + self.change)))
        self.norm = nn.BatchNorm1d(hidden)
        self.weight2 = nn.Parameter(torch.empty(len(self.start), hidden))
        self.beta = nn.Parameter(torch.empty(len(self.start)))
        self.logits = nn.Identity()  # In training z comes by here, where hooks see it.
        self.reset_parameters()
        self.float()  # Whatever the default is.
        # `load_state_dict(assign=True)` takes a checkpoint's tensors as they are.
        self.register_load_state_dict_post_hook(_in_single)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """To the start, as torch's own layers do it; the norm has a function of its own."""
        nn.init.kaiming_uniform_(self.weight1, a=math.sqrt(5))
        nn.init.zeros_(self.weight2)
        self.beta.copy_(self.beta.new_tensor(self.start))

    def forward(self, x: Tensor) -> Tensor:
        if is_plain_norm(self.norm):
            read = self.parameters_read()
            decide = decide_by_definition if wants_torch_alone() else DECIDE
            return decide(x, *read, *self.settings_read())
        with torch.autocast(autocast_of(x), enabled=False):
            pooled = pooled_maps(x, self.weight1.dtype, self.change)
            hidden = self._normalise(F.linear(pooled, self.weight1)).tanh()
            z = self.logits(F.linear(hidden, self.weight2, self.beta))
            return gates_from(z, self.axes, self.floor, self.leak, self.normalised)

    def _normalise(self, h: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training or samples_of(norm, h) > 1 or norm.running_mean is None:
            return norm(h)
        # One sample has no variance: the running statistics serve instead, and learn from it.
        mean, var = learn_from_one(norm, h.detach()[0])
        return F.batch_norm(h, mean, var, norm.weight, norm.bias, False, 0.0, norm.eps)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def keep_single(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return tensor.to(new.device) if new.dtype in HALF and tensor.dtype not in HALF else new

        return super()._apply(keep_single, recurse)

    def parameters_read(self) -> tuple[Any, ...]:
        """In the order of `decide_by_definition`."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        statistics = norm.running_mean, norm.running_var, norm.weight, norm.bias
        return (self.weight1, *statistics, self.weight2, self.beta)

    def settings_read(self) -> tuple[Any, ...]:
        """The rest of what `decide_by_definition` reads."""
        return (self.norm.eps, self.axes, self.floor, self.leak, self.change, self.normalised)

    def shift(self, by: float) -> Tensor:
        """(axes · S,) that added to β opens more by as much, or less: of each axis all choices but
        the last, which computes least and is what is left."""
        shift = torch.full_like(self.beta, by, requires_grad=False)
        shift.view(self.axes, -1)[:, -1] = 0
        return shift

    def macs(self) -> int:
        """MACs of one decision, by its two linear layers."""
        return self.weight1.numel() + self.weight2.numel()

    def extra_repr(self) -> str:
        return f"{self.weight1.shape[1]} -> {self.axes} x {len(self.beta) // self.axes}"


def _in_single(gate: nn.Module, keys: Any) -> None:
    if any(p.dtype in HALF for p in gate.parameters()):
        gate.float()


class HandsOn(nn.Module):
    """Before a gate's class: the other convolutions of its block take its answer over.

    The block's first convolution calls it, the others read through a `FollowerGate` in the same
    thread: each thread has an answer of its own, also where replicas of `DataParallel` share this
    gate's attributes. The last reader lets the answer go, so that no tensor outlives a pass that
    ends well; the next pass replaces what a failed one left.
    """

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self.followers = 0
        # Itself and no subclass, of whose attributes torch.compile would lose what is set.
        self._pass = threading.local()

    def forward(self, x: Tensor) -> Tensor:
        answer = super().forward(x)
        self.hand_on(answer)
        return answer

    def hand_on(self, answer: Tensor) -> None:
        """To as many reads as there are followers."""
        self._pass.answer = answer if self.followers else None
        self._pass.unread = self.followers

    def read(self) -> Tensor:
        answer = getattr(self._pass, "answer", None)
        if answer is None:
            raise DynamicError(
                "a convolution that shares its block's gate ran before the block's first one, "
                "which asks the gate; give each its own with share='conv'"
            )
        self._pass.unread -= 1
        if self._pass.unread == 0:
            self._pass.answer = None
        return answer

    @property
    def handed_on(self) -> dict[str, Any]:
        """What this thread's pass has handed on so far, to be put back by who makes it again."""
        return vars(self._pass)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_pass"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._pass = threading.local()


class BlockGate(HandsOn, Gate):
    """The gate of a block, which its first convolution asks."""


class FollowerGate(nn.Module):
    """Reads what the block's gate has just answered; without parameters of its own."""

    def __init__(self, leader: HandsOn) -> None:
        super().__init__()
        # In a tuple, the leader is not registered a second time: its state-dict keys stay single.
        self._leader = (leader,)
        leader.followers += 1

    @property
    def leader(self) -> HandsOn:
        return self._leader[0]

    def forward(self, x: Tensor) -> Tensor:
        answer = self.leader.read()
        # Not `len`, which torch takes microseconds for.
        if answer.shape[0] != x.shape[0]:
            raise DynamicError(
                f"the block's gate decided for {len(answer)} samples, this convolution got {len(x)}"
            )
        return answer

    def macs(self) -> int:
        return 0

    def extra_repr(self) -> str:
        return f"follows {self.leader.extra_repr()}"
