"""A convolution whose gate decides, from the input, what of it counts.

It is the convolution it replaces, with the same parameters under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules.conv import _ConvNd
from typing_extensions import Self

from vared_mm.method.config import Targets
from vared_mm.method.errors import DynamicError, UnsupportedConvError
from vared_mm.method.fixed_gate import RandomGate
from vared_mm.method.operators import uncompiled
from vared_mm.method.suitable import check_checkpoint

NOT_AFFINE = (
    "a dynamic convolution is not affine in its weight: its gate and cheap operations come after "
    "the product, so no BatchNorm can be folded into it (mmcv's fuse_conv_bn, torch's "
    "fuse_conv_bn_eval, efficient_conv_bn_eval, deploy switches). Leave the fusion out; "
    "vared_mm.fast.prepare_for_inference folds rightly. To put other weights into it, copy them: "
    "conv.weight.data.copy_(weight)"
)
NO_TRACE = (
    "a dynamic convolution asks for the sizes and the numbers of its input, which torch.fx and "
    "torch.jit.script do not know; torch.export.export and torch.jit.trace serve it, where it "
    "computes all paths and multiplies those that are closed by zero"
)
# Whether somebody looks at modules by `observe.Look`: code that was compiled without those
# hooks is left there.
is_watched = False


class GatedConv(_ConvNd):
    """Mixed into `nn.Conv2d` and `nn.Conv3d`. `gate` and `cheap` are all that it may add."""

    gate: Any
    _loading = False

    @property
    def config(self) -> Targets:
        """Its settings."""
        raise NotImplementedError

    @classmethod
    def _sharing(cls, conv: _ConvNd) -> Self:
        """With the parameters of `conv`, and no gate yet."""
        if conv.weight.ndim != (5 if issubclass(cls, nn.Conv3d) else 4):
            wanted = "Conv3d" if issubclass(cls, nn.Conv3d) else "Conv2d"
            raise UnsupportedConvError(
                f"{cls.__name__} is made from a {wanted}; came {type(conv).__name__}"
            )
        new = cls.__new__(cls)
        plain: Any = super(GatedConv, new)
        with torch.device("meta"):
            plain.__init__(
                conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                conv.dilation, conv.groups, conv.bias is not None, conv.padding_mode,
            )  # fmt: skip
        new.weight, new.bias = conv.weight, conv.bias
        return new

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            raise DynamicError(NO_TRACE)
        if x.ndim != self.weight.ndim or x.shape[1] != self.in_channels:
            raise DynamicError(
                f"{type(self).__name__} takes a batch (N, {self.in_channels}, "
                f"{'T, ' * (self.weight.ndim == 5)}H, W); came {tuple(x.shape)}"
            )
        return uncompiled(self._forward, x) if is_watched else self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def decision(self, x: Tensor, answer: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """What counts of the gate's `answer` to x, (N, G), and the shape of the output."""
        raise NotImplementedError

    def plain(self, x: Tensor) -> Tensor:
        """What the convolution that it replaces would answer."""
        return super()._conv_forward(x, self.weight, self.bias)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> NoReturn:
        # What asks a convolution for its product with other weights, as `efficient_conv_bn_eval`
        # does, goes past the gate.
        raise DynamicError(NOT_AFFINE)

    def __setattr__(self, name: str, value: Any) -> None:
        # Folding ends in an assignment. Loading may assign too, and torch's `fully_shard`, from
        # parameters to tensors of its own and back.
        if (
            type(value) is nn.Parameter
            and name in ("weight", "bias")
            and "gate" in self._modules
            and type(self._parameters.get(name)) is nn.Parameter
            and not self._loading
        ):
            raise DynamicError(NOT_AFFINE)
        super().__setattr__(name, value)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if isinstance(self.gate, RandomGate):
            self.gate.fit(state_dict, f"{prefix}gate.")
        # mmengine turns torch's size mismatches into warnings and would go on with random gates.
        check_checkpoint(self, self.config, state_dict, prefix)
        self._loading = True
        try:
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        finally:
            del self._loading

    def __prepare_scriptable__(self) -> NoReturn:
        # `torch.jit.script` asks each module for what it is to take in its place.
        raise DynamicError(NO_TRACE)
