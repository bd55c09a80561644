"""What the gates decide while they are trained, in every backend of mmengine's visualizer."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from vared_mm.engine.around_forward import Finish, LossWatchingHook, unwrapped
from vared_mm.method.config import is_whole
from vared_mm.method.cost import CostRecord
from vared_mm.method.errors import NoMatchingModuleError
from vared_mm.method.observe import dynamic_convs, record_cost


@HOOKS.register_module()
class PolicyLogHook(LossWatchingHook):
    """Writes the shares of each layer and the gates, from the training's own passes.

    - `share/<layer>`: r/R of a dynamic convolution, mean over the batch.
    - `open_channel/<r>`, `open_time/<1/R>`: the part of all gates of this choice that are open,
      over the batch and the layers.
    - `gate_channel/<r>`, `gate_time/<1/R>`: histograms of those gates, in backends that have
      `add_histogram`, as TensorBoard has.

    Beside them stand `mac_share` and the parts of the loss, which mmengine's `LoggerHook` writes.
    Under several processes the batch is the main one's, as it is for those losses.

    Args:
        interval: Iterations from one writing to the next; the others are left as they are.
    """

    def __init__(self, interval: int = 50) -> None:
        if not is_whole(interval, 1):
            raise ValueError(f"interval is {interval!r}; wanted iterations from 1 up")
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        if not dynamic_convs(model):
            raise NoMatchingModuleError(
                f"PolicyLogHook: {type(model).__name__} has no dynamic convolution; use a VaRed "
                "backbone or leave the hook out of custom_hooks"
            )

        def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
            if not self.every_n_train_iters(runner, self.interval):
                return lambda losses: losses
            record = stack.enter_context(record_cost(model))

            def finish(losses: dict[str, Tensor]) -> dict[str, Tensor]:
                write_policy(runner.visualizer, record, runner.iter + 1)
                return losses

            return finish

        if is_main_process():
            self.watch(runner, watch)


def write_policy(visualizer: Any, record: CostRecord, step: int) -> None:
    gates = gates_by_choice(record)
    opened = {f"open_{choice}": float((v > 0).mean(dtype=float)) for choice, v in gates.items()}
    # W&B counts writings as steps; by `iter`, as LoggerHook's rows have it, these go with those.
    visualizer.add_scalars({**layer_shares(record), **opened, "iter": step}, step=step)
    for backend in visualizer._vis_backends.values():
        if hasattr(backend.experiment, "add_histogram"):
            for choice, values in gates.items():
                backend.experiment.add_histogram(f"gate_{choice}", values, step)


@torch.no_grad()
def layer_shares(record: CostRecord) -> dict[str, float]:
    """`share/<layer>`, every row of a layer's passes weighted by its MACs."""
    # As if the batch were one sample, which all rows belong to.
    macs = record.per_layer(samples=1)
    shares = (macs["paper"] / macs["dense"])[0].tolist()
    return {f"share/{name}": share for name, share in zip(record.names, shares, strict=True)}


def gates_by_choice(record: CostRecord) -> dict[str, Any]:
    """All gates of one axis and choice, of all layers, by `<axis>/<share>`; numpy arrays."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for _, conv, gates, _ in record.seen:
        axes = gates.detach().split(conv.dynamic.search_space, 1)
        for axis, choices in zip(conv.axes, axes, strict=True):
            for i, values in enumerate(choices.unbind(1)):
                found[f"{axis}/{0.5**i:g}"].append(values)
    return {choice: torch.cat(parts).cpu().numpy() for choice, parts in found.items()}
