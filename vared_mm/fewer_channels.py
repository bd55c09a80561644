"""Networks of fewer channels beside those of a study (`tools/study.py`)."""

from __future__ import annotations

from typing import Any

from vared_mm.flops import bounds, build_model
from vared_mm.launch import config_of

BACKBONE, HEAD = "model.backbone", "model.cls_head.in_channels"


def i3d(n: int) -> dict[str, Any]:
    return {f"{BACKBONE}.width": n / 64, HEAD: 16 * n}


# Network: T H W of its clips.
CLIPS = {"i3d": (16, 36, 48), "i3d_w12": (8, 48, 48), "r2plus1d": (8, 36, 48), "x3d": (8, 36, 48)}
# Network: what makes it narrower, the widest first. Stages of X3D have multiples of 8 channels, so
# that its blocks are what gives way first.
NARROWER: dict[str, list[dict[str, Any]]] = {
    "i3d": [i3d(n) for n in range(15, 1, -1)],
    "i3d_w12": [i3d(n) for n in range(7, 1, -1)],
    "r2plus1d": [{f"{BACKBONE}.base_channels": n, HEAD: 8 * n} for n in range(7, 1, -1)],
    "x3d": [
        *({f"{BACKBONE}.gamma_b": n / 4, HEAD: 32 * n} for n in range(8, 3, -1)),
        {f"{BACKBONE}.gamma_w": 0.25, HEAD: 144},
    ],
}


def narrower(network: str, config: str, wanted: float) -> list[str]:
    """Options for the network whose GMACs are nearest to `wanted`: none has just as many."""
    nearest: dict[str, Any] = {}
    least = float("inf")
    for form in NARROWER[network]:
        model = build_model(config_of(config, form))
        apart = abs(bounds(model, CLIPS[network])["dense_gmacs"] - wanted)
        if apart > least:
            break
        nearest, least = form, apart
    return [f"{key}={value}" for key, value in nearest.items()]
