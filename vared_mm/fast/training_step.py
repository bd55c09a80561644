"""A training step of the dynamic network against the static one's, on the clock and in memory.

Forward with every path, backward, and the config's optimiser, gates and efficiency loss included.
What is minimised otherwise, the mean square of the answers, costs nothing that counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from vared_mm.engine.channels_last_hook import channels_last
from vared_mm.fast.engines import Network
from vared_mm.fast.static_twin import static_twin
from vared_mm.method.cost import efficiency_loss
from vared_mm.method.observe import dynamic_convs, record_cost
from vared_mm.speed import interleaved


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


def training_steps(
    model: nn.Module, optimizer: ConfigDict, inputs: Tensor, repeats: int, warm_up: int
) -> list[StepRow]:
    """Static and dynamic in turn, channels last. `optimizer` is a config's `optim_wrapper`."""
    networks = {"static": static_twin(model), "dynamic": copy.deepcopy(model)}
    steps: dict[str, Callable[[], object]] = {}
    kept: dict[str, float] = {}
    for name, network in networks.items():
        channels_last(network.train())
        wrapper = build_optim_wrapper(network, optimizer)
        with wrapper.optim_context(network):
            kept[name] = kept_bytes(network, inputs) / 1e6
        steps[name] = partial(step, network, wrapper, inputs)
    speeds = interleaved(steps, 1, repeats, warm_up)
    static = speeds["static"].median
    return [
        StepRow(
            batch=len(inputs), network=name, ms=1000 / speed.median,
            ms_quartiles=(1000 / speed.high, 1000 / speed.low), time_ratio=static / speed.median,
            kept_mb=kept[name], kept_ratio=kept[name] / kept["static"],
        )
        for name, speed in speeds.items()
    ]  # fmt: skip


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
