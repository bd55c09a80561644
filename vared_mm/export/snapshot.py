"""A static network out of a dynamic one: each dynamic convolution at one choice, norms folded."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.export.fixed_conv import fixed, with_norm
from vared_mm.fast.epilogue import affine_of
from vared_mm.fast.graph import chains, traced_parts
from vared_mm.fast.static_twin import plain_conv
from vared_mm.method.layer import _Dynamic
from vared_mm.method.surgery import exchange

# By the name of a convolution: what its gate answers to every sample, or what stands in its place.
Forms = Mapping[str, Sequence[float] | _ConvNd]
Sizes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Followed:
    """What reads a convolution, and nothing else does: the name of its norm, and a ReLU."""

    norm: str | None
    relu: bool


def followed(model: nn.Module) -> dict[str, Followed]:
    """Of the convolutions whose callers can be traced, by name."""
    names = {module: name for name, module in model.named_modules()}
    found = {}
    for _, graph in traced_parts(model):
        calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
        for chain in chains(graph):
            norm = chain.norm
            if norm is not None and calls[norm.target] > 1:
                continue
            parts = [None if n is None else graph.get_submodule(str(n.target)) for n in
                     (chain.conv, norm)]  # fmt: skip
            conv, its_norm = (None if m is None else names[m] for m in parts)
            relu = chain.relu is not None and chain.add is None
            found[str(conv)] = Followed(its_norm, relu)
    return found


def snapshot(model: nn.Module, forms: Forms, sizes: Sizes) -> nn.Module:
    """A copy of plain modules alone, in evaluation.

    Args:
        forms: Of every dynamic convolution.
        sizes: (N, C, [T,] H, W) of their inputs; the copy is for such T.
    """
    new = copy.deepcopy(model)
    new.eval()  # Some backbones of MMAction2 return None.
    norms, taken = followed(new), dict[int, nn.Module]()
    for name, conv in dict(new.named_modules()).items():
        if not isinstance(conv, _ConvNd):
            continue
        norm_name = norms[name].norm if name in norms else None
        if isinstance(conv, _Dynamic) or norm_name is not None:
            norm = None if norm_name is None else new.get_submodule(norm_name)
            made = made_of(conv, norm, forms.get(name), sizes.get(name, ()))
            taken[id(conv)] = made[0]
            if norm is not None:
                taken[id(norm)] = made[1]
    exchange(new, taken)
    return new


def made_of(
    conv: _ConvNd, norm: Any, form: Sequence[float] | _ConvNd | None, size: Sequence[int]
) -> tuple[nn.Module, nn.Module]:
    """What stands in the places of a convolution and of its norm."""
    own: nn.Module = conv
    if isinstance(form, _ConvNd):
        own = form
    elif form is not None:
        assert isinstance(conv, _Dynamic)
        own = fixed(conv, form, size)
    if norm is None:
        return own, nn.Identity()
    if not isinstance(own, _ConvNd):
        return own, norm
    return with_norm(own, *affine_of(norm)), nn.Identity()


def plain_forms(model: nn.Module) -> dict[str, _ConvNd]:
    """Every dynamic convolution as the plain one of its weights."""
    return {n: plain_conv(m) for n, m in model.named_modules() if isinstance(m, _Dynamic)}
