"""Sigmoid focal loss (Lin et al., ICCV 2017), which mmdet calls on the GPU.

On the CPU mmdet has its own version. x (N, C) are logits, target (N,) the class of each row, with
C for background; weight (C,) is per class, or empty.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write -a (1 - q)^gamma log q to `output` (N, C).

    q is the probability given to what is right, a is alpha for the right class, else 1 - alpha.
    """
    log_q, a, _ = _terms(input, target, weight, alpha)
    output.copy_(-a * (1 - log_q.exp()) ** gamma * log_q)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of the loss by the logits to `grad_input` (N, C)."""
    log_q, a, sign = _terms(input, target, weight, alpha)
    q = log_q.exp()
    grad_input.copy_(sign * a * (1 - q) ** gamma * (gamma * q * log_q - (1 - q)))


def _terms(
    input: Tensor, target: Tensor, weight: Tensor, alpha: float
) -> tuple[Tensor, Tensor, Tensor]:
    """log q, a, and the sign of dq/dx, each (N, C)."""
    classes = torch.arange(input.shape[1], device=input.device)
    right = target[:, None] == classes
    sign = torch.where(right, 1.0, -1.0).to(input.dtype)
    a = torch.where(right, alpha, 1 - alpha).to(input.dtype)
    if weight.numel():
        # The compiled operator reads past the end of `weight` for background rows.
        a = a * torch.cat([weight, weight.new_ones(1)])[target][:, None]
    return torch.nn.functional.logsigmoid(sign * input), a, sign
