"""A network with other modules in the places of its dynamic convolutions, norms folded."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.export.fixed_conv import fixed, with_norm
from vared_mm.fast.epilogue import affine_of
from vared_mm.fast.graph import chains
from vared_mm.fast.tracing import traced_parts
from vared_mm.method.layer import _Dynamic
from vared_mm.method.surgery import exchange

# By the name of a convolution: what its gate answers to every sample, or what stands in its place.
Forms = Mapping[str, Sequence[float] | nn.Module]
Sizes = Mapping[str, Sequence[int]]


class Followed(NamedTuple):
    """What reads a convolution, and nothing else does: the name of its norm, and a ReLU."""

    norm: str | None = None
    relu: bool = False


def followed(model: nn.Module) -> dict[str, Followed]:
    """Of the convolutions whose callers can be traced, by name."""
    names = {module: name for name, module in model.named_modules()}
    found = {}
    for _, graph in traced_parts(model):
        calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
        for chain in chains(graph):
            norm = None
            if chain.norm is not None:
                if calls[chain.norm.target] > 1:
                    continue
                norm = names[graph.get_submodule(str(chain.norm.target))]
            conv = names[graph.get_submodule(str(chain.conv.target))]
            found[conv] = Followed(norm, chain.relu is not None and chain.add is None)
    return found


def snapshot(model: nn.Module, forms: Forms, sizes: Sizes) -> nn.Module:
    """A copy in evaluation whose dynamic convolutions are what `forms` tells, norms folded.

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
        norm_name, _ = norms.get(name, Followed())
        norm = None if norm_name is None else new.get_submodule(norm_name)
        own: Any = conv
        if isinstance(conv, _Dynamic):
            own = forms[name]
            if not isinstance(own, nn.Module):
                own = fixed(conv, own, sizes.get(name, ()))
        taken[id(conv)], new_norm = folded(own, norm)
        if norm is not None:
            taken[id(norm)] = new_norm
    exchange(new, taken)
    return new


def folded(conv: nn.Module, norm: Any) -> tuple[nn.Module, nn.Module]:
    """What stands in the places of a convolution and of the norm that follows it, if any: a norm
    goes into a plain convolution."""
    if norm is None:
        return conv, nn.Identity()
    if not isinstance(conv, _ConvNd):
        return conv, norm
    return with_norm(conv, *affine_of(norm)), nn.Identity()
