"""What networks get before they are prepared, and what their answers are held to."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vared_mm.method.observe import dynamic_convs, record_cost


@torch.no_grad()
def lively(model, x):
    """Norms that have seen `x`, gates and Φ that are not as they start; in evaluation."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            # A gate's norm stays as it is: three clips would make it too sharp.
            module.momentum = 0.0 if ".gate." in name else 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    for conv in dynamic_convs(model).values():
        for name, parameter in conv.gate.named_parameters():
            if name in ("weight2", "beta"):
                nn.init.normal_(parameter, std=2.0 if name == "weight2" else 0.0)
        for phi in conv.cheap.parameters():
            nn.init.normal_(phi, std=0.15)
    model.train()
    model(x)
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            # Rounding errors of channels that are nearly always zero would be blown up.
            module.running_var.clamp_(min=0.1)
    return model


def assert_close(came, expected):
    came, expected = (v if isinstance(v, tuple) else (v,) for v in (came, expected))
    for a, b in zip(came, expected, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def assert_close_by_choices(model, prepared, x):
    """Compares answers to clips for which the gates choose differently."""
    clips = [scale * torch.randn_like(x) + scale for scale in (-4, -2, -0.5, 0.5, 2, 4) * 2]
    with record_cost(model) as record:
        expected = [model(clip) for clip in clips]
    assert len({tuple(seen.gates[0].gt(0).tolist()) for seen in record.seen}) > 1
    for _ in range(2):
        for clip, answer in zip(clips, expected, strict=True):
            assert_close(prepared(clip), answer)


class Scaling(nn.Module):
    """Overwrites what it is given, and asks a convolution."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return self.conv(x.mul_(2))
