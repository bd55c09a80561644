"""Any budget from one checkpoint: all gates are opened or closed further, by the same shift of β.

The shift is found by bisection on the validation set, of which each of several processes runs its
part. Shares are of the MACs of the dynamic convolutions, in [0, 1]. What comes out is a checkpoint
like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, is_main_process
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor, nn

from vared_mm.files import half_written
from vared_mm.flops import build_model
from vared_mm.method.gate import Gate
from vared_mm.method.observe import record_cost
from vared_mm.screen import tracked

# A shift that opens or closes any gate, and how often the range is halved: to 0.005. Each is a pass
# over the validation set, and a share that is off by so little is near enough.
REACH, HALVINGS, NEAR = 10.0, 12, 0.002


class Shifted(NamedTuple):
    """The shift of β, and the mean share that it leads to on the validation set."""

    shift: float
    share: float


def write_at_budgets(
    config: Config, checkpoint: Path, outs: Mapping[float, Path]
) -> dict[float, Shifted]:
    """Writes `checkpoint` once for each mean share of `outs`, shifted as near to it as it goes; all
    processes look, and the main one writes.

    Raises:
        ValueError: The model is static, or its gates do not reach all of them; nothing is written.
    """
    model = build_model(config, str(checkpoint))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    if not gates:
        raise ValueError(f"{checkpoint} has no gates that ask the input, and so no other budget")
    begun = [gate.beta.detach().clone() for gate in gates]
    settings = config.get("val_dataloader") or config.test_dataloader
    # Each sample once, whatever the number of processes.
    sampler = {"type": "DefaultSampler", "shuffle": False, "round_up": False}
    settings = {**settings, "persistent_workers": False, "sampler": sampler}
    loader = Runner.build_dataloader(settings)

    def share(shift: float) -> float:
        shift_all(gates, begun, shift)
        return mean_share(model, loader)

    found = shifts_for(share, outs)
    for target, out in outs.items() if is_main_process() else ():
        shift_all(gates, begun, found[target].shift)
        out.parent.mkdir(parents=True, exist_ok=True)
        weights = weights_to_cpu(model.state_dict())
        # Into an open file: torch writes its name into it, with which the same weights are other
        # bytes each time, and what was evaluated of them is not found again.
        with half_written(out) as half, half.open("wb") as file:
            torch.save({"state_dict": weights, "meta": {"dataset_meta": model.dataset_meta}}, file)
    return found


@torch.no_grad()
def shift_all(gates: Sequence[Gate], begun: Sequence[Tensor], shift: float) -> None:
    """From the β that they had."""
    for gate, beta in zip(gates, begun, strict=True):
        gate.beta.copy_(beta + gate.shift(shift))


def shifts_for(share: Callable[[float], float], targets: Iterable[float]) -> dict[float, Shifted]:
    """For each target the shift whose share is nearest; `share` rises with the shift.

    Raises:
        ValueError: A target is out of reach, which is told before any is looked for.
    """
    share = cache(share)
    lowest, highest = share(-REACH), share(REACH)
    # They are told rounded, and may be asked for so.
    beyond = [target for target in targets if not lowest - NEAR <= target <= highest + NEAR]
    if beyond:
        raise ValueError(
            f"a share of {' and '.join(map(str, beyond))} was asked for, and the gates reach from "
            f"{lowest:.3f} to {highest:.3f}"
        )

    def nearest(target: float) -> Shifted:
        low, high = (Shifted(end, share(end)) for end in (-REACH, REACH))
        for _ in range(HALVINGS):
            middle = (low.shift + high.shift) / 2
            tried = Shifted(middle, share(middle))
            if abs(tried.share - target) <= NEAR:
                return tried
            low, high = (tried, high) if tried.share < target else (low, tried)
        return min(low, high, key=lambda one: abs(one.share - target))

    return {target: nearest(target) for target in targets}


def mean_share(model: BaseModel | nn.Module, loader: Any) -> float:
    """Over the samples of all processes."""
    total, samples = 0.0, 0
    batches = (
        tracked(loader, len(loader), "looking for the budget") if is_main_process() else loader
    )
    with torch.no_grad():
        for data in batches:
            with record_cost(model) as record:
                count = len(model.test_step(data))  # type: ignore[operator]
            total += float(record.share(count).sum())
            samples += count
    sums = torch.tensor([total, samples], dtype=torch.float64)
    all_reduce(sums)
    return float(sums[0] / sums[1])
