"""A training step of the dynamic network against the static one's, on the clock and in memory.

Forward with every path, backward, and the config's optimiser, gates and efficiency loss included.
What is minimised otherwise, the mean square of the answers, costs nothing that counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.fast.engines import Network
from vared_mm.fast.isolated import clocks_of
from vared_mm.fast.static_twin import static_twin
from vared_mm.method.cost import efficiency_loss
from vared_mm.method.observe import dynamic_convs, record_cost
from vared_mm.speed import in_turn


@dataclass(frozen=True)
class StepRow:
    """One line of the table; the ratios are to the static network.

    `kept_mb`: what the forward pass keeps for the backward one, without the parameters.
    """

    batch: int
    network: str
    ms: float
    ms_quartiles: tuple[float, float]
    time_ratio: float
    kept_mb: float
    kept_ratio: float


NETWORKS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "static": static_twin, "dynamic": copy.deepcopy,
}  # fmt: skip


def training_steps(
    model: nn.Module, optimizer: ConfigDict, inputs: Tensor, repeats: int, warm_up: int
) -> list[StepRow]:
    """Static and dynamic in turn, channels last; on a CPU in a process each, as neither meets the
    other's memory in a training. `optimizer` is a config's `optim_wrapper`.
    """
    jobs = {name: partial(steps_of, name, model, optimizer, inputs) for name in NETWORKS}
    kept = {}
    for name in NETWORKS:
        network, wrapper = in_training(name, model, optimizer)
        with wrapper.optim_context(network):
            kept[name] = kept_bytes(network, inputs) / 1e6
    with clocks_of(jobs, warm_up, apart=not inputs.is_cuda) as clocks:
        speeds = in_turn(clocks, 1, range(repeats))
    static = speeds["static"].median
    return [
        StepRow(
            batch=len(inputs), network=name, ms=1000 / speed.median,
            ms_quartiles=(1000 / speed.high, 1000 / speed.low), time_ratio=static / speed.median,
            kept_mb=kept[name], kept_ratio=kept[name] / kept["static"],
        )
        for name, speed in speeds.items()
    ]  # fmt: skip


def steps_of(
    name: str, model: nn.Module, optimizer: ConfigDict, inputs: Tensor, stack: ExitStack
) -> dict[str, Callable[[], object]]:
    """A step of one network, by its name."""
    stack.enter_context(torch.enable_grad())
    return {name: partial(step, *in_training(name, model, optimizer), inputs)}


def in_training(
    name: str, model: nn.Module, optimizer: ConfigDict
) -> tuple[nn.Module, OptimWrapper]:
    """One of the networks, a copy, and what updates it."""
    network = NETWORKS[name](model).train()
    channels_last(network)
    return network, build_optim_wrapper(network, optimizer)


def step(network: nn.Module, wrapper: OptimWrapper, inputs: Tensor) -> None:
    with wrapper.optim_context(network):
        loss = loss_of(network, inputs)
    wrapper.update_params(loss)


def loss_of(network: nn.Module, inputs: Tensor) -> Tensor:
    with record_cost(network) as record:
        loss = Network(network)(inputs).square().mean()
    if dynamic_convs(network):
        share = record.share(len(inputs))
        loss = loss + efficiency_loss(share, torch.ones_like(share))
    return loss


def kept_bytes(network: nn.Module, inputs: Tensor) -> int:
    """Of all memory that autograd saves tensors in, each counted once."""
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss_of(network, inputs)
    return sum(size for place, size in kept.items() if place not in parameters)
