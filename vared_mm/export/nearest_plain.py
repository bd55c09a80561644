"""The plain convolution that comes nearest to what a dynamic one answered to some clips.

Where no choice is faster than computing all, all is computed, and the filters are mixed so that
they answer as the choices did: M of least Σ ‖Y − M · [conv(X), 1]‖² over all positions. Per group,
as filters of one group do not see another's inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from vared_mm.fast.static_twin import plain_conv
from vared_mm.method.layer import _Dynamic
from vared_mm.method.observe import dynamic_convs

# Of a channel's own power, what is added to it: keeps M finite where channels say the same.
RIDGE = 1e-4


class Fit:
    """What least squares need to know of one convolution f filters to each of g groups."""

    def __init__(self, conv: _Dynamic) -> None:
        filters = conv.out_channels // conv.groups
        self.conv = conv
        self.power = torch.zeros(conv.groups, filters + 1, filters + 1, dtype=torch.float64)
        self.product = torch.zeros(conv.groups, filters, filters + 1, dtype=torch.float64)

    def see(self, conv: nn.Module, args: tuple[Tensor, ...], answer: Tensor) -> None:
        """A hook of the convolution."""
        y, wanted = (self._positions(maps) for maps in (self.conv.plain(args[0]), answer))
        y = torch.cat([y, torch.ones_like(y[:, :1])], 1)
        self.power += (y @ y.mT).double()
        self.product += (wanted @ y.mT).double()

    def _positions(self, maps: Tensor) -> Tensor:
        """(g, f, positions)."""
        return maps.transpose(0, 1).flatten(1).unflatten(0, (self.conv.groups, -1)).float()

    def nearest(self) -> _ConvNd:
        diagonal = self.power.diagonal(dim1=-2, dim2=-1)
        ridge = RIDGE * diagonal + 1e-12 * diagonal.max()
        mix = torch.linalg.solve(self.power + torch.diag_embed(ridge), self.product, left=False)
        conv, (mix, shift) = self.conv, mix.split([mix.shape[-1] - 1, 1], -1)

        def mixed(weight: Tensor) -> Tensor:
            own = weight.detach().double().reshape(conv.groups, mix.shape[-1], -1)
            return (mix @ own).reshape(weight.shape)

        bias = shift.flatten() + (0 if conv.bias is None else mixed(conv.bias))
        new = plain_conv(conv).eval()
        new.weight, new.bias = (
            nn.Parameter(value.to(conv.weight.dtype), requires_grad=False)
            for value in (mixed(conv.weight), bias)
        )
        return new


@contextmanager
def fitted(model: nn.Module, names: Collection[str]) -> Iterator[dict[str, Fit]]:
    """Sees what the model's dynamic convolutions of these names read and answer."""
    fits = {name: Fit(conv) for name, conv in dynamic_convs(model).items() if name in names}
    with ExitStack() as stack:
        for fit in fits.values():
            stack.enter_context(fit.conv.register_forward_hook(fit.see))
        yield fits
