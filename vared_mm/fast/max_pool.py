"""Max pooling in a prepared model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _triple

from vared_mm.fast.prepared_forward import PreparedForward
from vared_mm.kernels.max_pool import Pooling


class MaxPool(PreparedForward):
    """The `forward` of an `nn.MaxPool3d`; torch's takes several times as long channels last."""

    def __init__(self, pool: nn.MaxPool3d) -> None:
        self.plain = pool.forward
        settings = pool.kernel_size, pool.stride, pool.padding
        self._kernel = Pooling(*map(_triple, settings))

    def compute(self, x: Tensor) -> Tensor:
        is_differentiated = x.requires_grad and torch.is_grad_enabled()
        run = self._kernel if not is_differentiated and self._kernel.serves(x) else self.plain
        return run(x)


def is_plain_pool(module: nn.Module) -> bool:
    """Whether it pools as `MaxPool` does: without dilation, indices or rounding up."""
    return (
        isinstance(module, nn.MaxPool3d)
        and type(module).forward is nn.MaxPool3d.forward
        and _triple(module.dilation) == (1, 1, 1)
        and not module.return_indices
        and not module.ceil_mode
        # Each window meets the maps.
        and all(
            2 * p <= k
            for p, k in zip(_triple(module.padding), _triple(module.kernel_size), strict=True)
        )
    )
