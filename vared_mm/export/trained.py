"""A trained dynamic network, and what it made of clips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from vared_mm.engine.check_labels_hook import decode_head
from vared_mm.engine.correct_segmentation import best
from vared_mm.export.clips import Best, Seen, clips_of, look, network_of
from vared_mm.export.targets import TARGETS, ExportError, Target
from vared_mm.fast.engines import Network
from vared_mm.method.observe import dynamic_convs, gated_convs


@dataclass(frozen=True)
class Settings:
    """The options of `vared-mm export`, which its `--help` explains.

    Args:
        to: "onnx", "openvino" or "torch".
        policy: "most-frequent", "full", "share=0.5", a file, or "dynamic".
        policies: How many policies beside a router; 0 for one policy.
        clips: To count choices on, and as many others to try the file on.
        gates_that_pay: Compute all in layers that are not faster for the policy.
        repeats: Of each timing.
    """

    to: str = "onnx"
    policy: str = "most-frequent"
    policies: int = 0
    clips: int = 64
    gates_that_pay: bool = True
    repeats: int = 15

    @property
    def target(self) -> Target:
        return TARGETS[self.to]


@dataclass(frozen=True)
class Trained:
    """
    Args:
        seen: Clips to count and to fit on.
        others: Those to judge by: what is fitted to clips shall not be judged by them.
    """

    network: Network
    seen: Seen
    others: Seen

    @property
    def model(self) -> nn.Module:
        return self.network.model

    @property
    def best(self) -> Best | None:
        """None where it does not answer with scores of classes, as a recogniser and a segmentor
        do."""
        if hasattr(self.model, "decode_head"):
            return partial(best, decode_head(self.model))
        has_boxes = any(hasattr(self.model, head) for head in ("bbox_head", "roi_head"))
        return None if has_boxes else partial(torch.argmax, dim=1)

    @property
    def answers(self) -> Tensor:
        """(clips, ...) to the others, as the network chooses by itself."""
        return torch.cat(self.others.answers)


def trained(model: BaseModel, config: Config, clips: int) -> Trained:
    """Raises `ExportError` where it cannot be looked at."""
    network = network_of(model)
    every = look(network, clips_of(model, config, 2 * clips))
    return Trained(network, every.half(0), every.half(1))


def refuse_rivals(model: nn.Module) -> None:
    """Raises `ExportError` where it decides by other gates than ours."""
    ours = dynamic_convs(model)
    others = [conv for name, conv in gated_convs(model).items() if name not in ours]
    if others or hasattr(model, "record_cost"):
        kind = type(others[0] if others else model).__name__
        raise ExportError(
            f"a {kind} chooses otherwise than by one gate for each clip, and no policy stands for "
            "that; wanted a network whose backbone's type begins with VaRed, or a static one"
        )


def conditions(of: Trained, settings: Settings) -> dict[str, Any]:
    """Under which the numbers of a report hold."""
    return {
        "engine": settings.target.engine, "threads": torch.get_num_threads(),
        "precision": str(settings.target.precision()).removeprefix("torch."),
        "inputs": ["batch", *of.seen.clips[0].shape[1:]], "clips": len(of.others.clips),
        "convolutions": len(dynamic_convs(of.model)),
    }  # fmt: skip
