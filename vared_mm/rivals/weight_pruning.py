"""Weight-level pruning: of a whole network, the weights of least magnitude are zero.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015; the rival
of Table 7. The unit is the MAC. By formula a weight that is zero costs nothing, so a layer costs
density · MACs. That is no time saved: the layer computes all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from vared_mm.method.observe import dynamic_convs
from vared_mm.rivals.ghost import ghosts

# Of the weights; so many may be zero by chance, as at the start, or by rounding to half precision.
FEW = 1e-3


def weighted_layers(model: nn.Module) -> dict[str, _ConvNd | nn.Linear]:
    """Convolutions and linear layers by name; dynamic ones, and what is in them, cost otherwise.

    So do the cheap operations of Ghost modules, which are zero beside their centre as they begin.
    """
    cheap = (f"{name}.cheap" for name in ghosts(model))
    others = tuple(f"{name}." for name in (*dynamic_convs(model), *cheap))
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd | nn.Linear)
        and isinstance(module.weight, nn.Parameter)
        and not f"{name}.".startswith(others)
    }


@contextmanager
def record_uses(model: nn.Module, names: Iterable[str] | None = None) -> Iterator[dict[str, int]]:
    """How often a pass multiplies by each weight of a layer, in the order in which layers ran."""
    uses: dict[str, int] = {}

    def note(name: str, layer: _ConvNd | nn.Linear, args: tuple, out: Tensor) -> None:
        positions = (args[0] if isinstance(layer, _ConvTransposeNd) else out).numel()
        uses[name] = uses.get(name, 0) + positions // len(layer.weight)

    layers = weighted_layers(model)
    with ExitStack() as stack:
        for name in layers if names is None else names:
            stack.callback(layers[name].register_forward_hook(partial(note, name)).remove)
        yield uses


def zeros_of(model: nn.Module) -> dict[str, int]:
    """How many weights are zero, of each layer that has such; of a network not pruned, nothing."""
    weights = {n: m.weight for n, m in weighted_layers(model).items() if not m.weight.is_meta}
    counts = {name: w.numel() - int(w.count_nonzero()) for name, w in weights.items()}
    if sum(counts.values()) < FEW * sum(w.numel() for w in weights.values()):
        return {}
    return {name: count for name, count in counts.items() if count}


def zero_macs(zeros: Mapping[str, int], uses: Mapping[str, int]) -> int:
    """MACs of a pass that multiply by a zero."""
    return sum(uses.get(name, 0) * count for name, count in zeros.items())


def prunable(uses: Mapping[str, int], layers: Mapping[str, nn.Module]) -> list[str]:
    """All layers that ran but the first convolution and the last layer, which is the classifier."""
    first = next((name for name in uses if isinstance(layers[name], _ConvNd)), None)
    return [name for name in uses if name not in (first, list(uses)[-1])]


def masks_for(
    model: nn.Module, uses: Mapping[str, int], total: float, share: float
) -> dict[str, Tensor]:
    """What is kept of each layer's weights, so that the network costs `share` by formula.

    Weights that are zero already stay so. Where they are enough, as in a checkpoint of the same
    share, no other one is pruned.

    Args:
        uses: Of a pass, from `record_uses`.
        total: Its MACs, those of what has no such weights too.
        share: Wanted part of `total`, in (0, 1].

    Raises:
        ValueError: Nothing can be pruned, or what is left alone costs more than that.
    """
    layers = weighted_layers(model)
    names = prunable(uses, layers)
    if not names:
        raise ValueError(
            f"{type(model).__name__} has {len(uses)} convolutions and linear layers that ran; "
            "wanted one at least beside the first convolution and the classifier, which are not "
            "pruned"
        )
    weights = {name: layers[name].weight.detach() for name in names}
    left = total - sum(uses[name] * weight.numel() for name, weight in weights.items())
    if share * total < left:
        raise ValueError(
            f"share={share:g} of the MACs cannot be reached: the first convolution, the classifier "
            f"and what has no weights cost {left / total:.4f}, the least there is"
        )
    threshold = threshold_for(weights, uses, share * total - left)
    return {name: weight.abs() > threshold for name, weight in weights.items()}


def threshold_for(weights: Mapping[str, Tensor], uses: Mapping[str, int], most: float) -> float:
    """The least magnitude above which weights take no more than `most` MACs; 0 where those that are
    not zero take no more."""
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    macs = torch.cat([torch.full_like(w, uses[n], dtype=torch.int64).flatten()
                      for n, w in weights.items()])  # fmt: skip
    falling, order = magnitudes.sort(descending=True)
    fit = int((macs[order].cumsum(0) <= most).sum())
    return float(falling[fit]) if fit < len(falling) else 0.0


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Makes the weights zero that are not kept."""
    for name, mask in masks.items():
        layer: Any = model.get_submodule(name)
        layer.weight.mul_(mask)
