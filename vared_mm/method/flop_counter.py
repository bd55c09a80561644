"""What really ran, counted by torch, and by formulas for what its counter leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from typing_extensions import Self


def rnn_flops(
    inputs: Sequence[int], weight: Sequence[int], hidden: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    """Of shapes (T, N, I), (4H, I) and (4H, H)."""
    return 2 * math.prod(inputs[:2]) * (math.prod(weight) + math.prod(hidden))


def attention_flops(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(q, k, v)


# Forms of an LSTM and of attention that processors have, and that torch leaves out.
LEFT_OUT = {
    torch.ops.aten.mkldnn_rnn_layer: rnn_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
}


class FlopCounter(FlopCounterMode):
    """Counts all that runs in its `with` block, without a table.

    In evaluation torch computes its own transformer layers, and attention with `batch_first`, in
    one operation that no counter looks into; here they run as in training.
    """

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=LEFT_OUT)

    def __enter__(self) -> Self:
        self._was_fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        torch.backends.mha.set_fastpath_enabled(self._was_fast)


def counted_macs(run: Callable[..., object], *inputs: Any) -> float:
    """Those of `run(*inputs)` without gradients."""
    with torch.no_grad(), FlopCounter() as counter:
        run(*inputs)
    return counter.get_total_flops() / 2
