"""The network as a function from clips to one answer, and real clips to try it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vared_mm.engine.views import by_view, frames_of_view
from vared_mm.export.targets import ExportError
from vared_mm.fast.engines import Network
from vared_mm.fast.same_answers import tensors_in
from vared_mm.flops import loader_of
from vared_mm.method.observe import dynamic_convs, record_cost
from vared_mm.screen import tracked
from vared_mm.settings import steps_of
from vared_mm.tensor_form import answer_of

# From scores (clips, classes, ...) to the class of each clip or pixel.
Best = Callable[[Tensor], Tensor]


class OneView(Network):
    """A recogniser as a function of (N, C, T, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(1))


@dataclass
class Seen:
    """What the dynamic model made of the clips.

    Args:
        clips: (1, C, [T,] H, W) each, as the data preprocessor hands them over.
        labels: Of each clip, None where the data set tells none.
        answers: (1, ...) each.
        gates: (1, passes, rows, G) of each, by the convolution that asks.
        sizes: (1, C, [T,] H, W) of each convolution's input.
        dense: MACs of each plain convolution, for one clip.
        frames: T of what each convolution answers.
        spared: MACs that each clip spared.
    """

    clips: list[Tensor] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)
    answers: list[Tensor] = field(default_factory=list)
    gates: list[dict[str, Tensor]] = field(default_factory=list)
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dense: dict[str, float] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    spared: list[float] = field(default_factory=list)

    @property
    def spared_by_clip(self) -> float:
        return sum(self.spared) / len(self.spared)

    def half(self, first: int) -> Seen:
        """Every second clip; of a single one, that."""
        part = slice(first if len(self.clips) > 1 else 0, None, 2)
        lists = {name: v[part] for name, v in vars(self).items() if isinstance(v, list)}
        return Seen(**lists, sizes=self.sizes, dense=self.dense, frames=self.frames)


def clips_of(model: BaseModel, config: Config, count: int) -> Iterator[tuple[Tensor, int | None]]:
    """Views of samples from all of the validation set, always the same ones: the first of a list
    may be of few classes."""
    loader = loader_of(config, shuffle=True, part="val")
    yield from tracked(islice(views_of(model, loader), count), count, "clips")


def views_of(model: BaseModel, loader: DataLoader) -> Iterator[tuple[Tensor, int | None]]:
    frames = frames_of_view(model, steps_of(loader.dataset))
    for batch in loader:
        data = model.data_preprocessor(batch)
        inputs, label = data["inputs"], label_of(data.get("data_samples"))
        for view in by_view(inputs, frames).flatten(0, 1).split(1):
            yield view, label


def label_of(samples: Any) -> int | None:
    label = getattr(samples[0], "gt_label", None) if samples else None
    return int(label) if isinstance(label, Tensor) and label.numel() == 1 else None


def network_of(model: nn.Module) -> Network:
    """As a function of what `clips_of` hands out."""
    shape = getattr(getattr(model, "data_preprocessor", None), "format_shape", None)
    return (OneView if shape == "NCTHW" else Network)(model)


@torch.no_grad()
def look(network: Network, clips: Iterator[tuple[Tensor, int | None]]) -> Seen:
    """Runs the dynamic network on them.

    Raises:
        ExportError: It has more than one answer to a clip, or clips differ in size.
    """
    seen, model = Seen(), network.model
    for clip, label in clips:
        if seen.clips and clip.shape != seen.clips[0].shape:
            raise ExportError(
                f"clips of {tuple(seen.clips[0].shape)} and {tuple(clip.shape)} came, and a file "
                "is for one size; give the validation pipeline a Resize or a crop to one"
            )
        with record_cost(model) as record, sizes_read(model) as sizes:
            seen.answers.append(only_answer(network, clip))
        costs = record.per_layer(1)
        seen.dense = dict(zip(record.names, costs["dense"][0].tolist(), strict=True))
        seen.frames = dict(zip(record.names, record.frames, strict=True))
        seen.spared.append(float((costs["dense"] - costs["full"]).sum()))
        seen.gates.append(record.decisions(1))
        seen.clips.append(clip)
        seen.labels.append(label)
        seen.sizes = sizes
    if not seen.clips:
        raise ExportError("the validation set has no sample, and nothing can be tried without one")
    return seen


@contextmanager
def sizes_read(model: nn.Module) -> Iterator[dict[str, tuple[int, ...]]]:
    """(N, C, [T,] H, W) of what each dynamic convolution reads."""
    sizes: dict[str, tuple[int, ...]] = {}

    def note(name: str, conv: nn.Module, args: tuple[Tensor, ...]) -> None:
        sizes[name] = tuple(args[0].shape)

    with ExitStack() as stack:
        for name, conv in dynamic_convs(model).items():
            stack.callback(conv.register_forward_pre_hook(partial(note, name)).remove)
        yield sizes


def only_answer(network: Network, clip: Tensor) -> Tensor:
    inputs = clip.unsqueeze(1) if isinstance(network, OneView) else clip
    answers = list(tensors_in(answer_of(network.model, inputs)))
    if len(answers) != 1:
        raise ExportError(
            f"a {type(network.model).__name__} answers to a clip with {len(answers)} tensors; "
            "wanted one, as the scores of a recogniser or a segmenter. In Python, "
            "vared_mm.export.snapshot makes plain modules of its backbone"
        )
    return answers[0]
