"""What a model costs: dense, and between the cheapest and the costliest choice of its gates.

The unit is the MAC of convolutions and linear layers, counted while they run.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import summarise
from vared_mm.method.observe import dynamic_convs, forced_gates, record_cost
from vared_mm.screen import tracked
from vared_mm.weights import load_weights


def build_model(config: Config, checkpoint: str | None = None) -> BaseModel:
    """The config's model in evaluation mode; nothing it names is downloaded.

    What a checkpoint says of its data set, such as the classes, becomes `dataset_meta`, as in the
    toolboxes' own `init_model` and `init_detector`.
    """
    init_default_scope(config.get("default_scope", "mmaction"))
    settings = copy.deepcopy(config.model)
    backbone = settings.get("backbone", {})
    for part in (settings, backbone, backbone.get("backbone", {})):
        for name in ("pretrained", "init_cfg"):
            part.pop(name, None)
    model: Any = MODELS.build(settings)
    if checkpoint:
        model.dataset_meta = load_weights(model, checkpoint).get("dataset_meta") or {}
    return model.eval()


def bounds(model: BaseModel, shape: tuple[int, ...]) -> dict[str, Any]:
    """Dense GMACs for one input of `shape`, T H W or H W, and the range the gates can choose from.

    An average needs real inputs (`measured`) and is None here. The ends of `full_gmacs` are those
    of the cheapest and the costliest choice by the paper's formula.
    """
    inputs = input_of(model, shape)
    seen, full, dense, parts = count(model, inputs)
    report: dict[str, Any] = {
        "dense_gmacs": (seen - full + dense) / 1e9,
        "paper_gmacs": {"avg": None, "min": None, "max": None},
        "full_gmacs": {"avg": None, "min": None, "max": None},
        "params_m": sum(p.numel() for p in model.parameters()) / 1e6,
        "parts_gmacs": parts,
    }
    space = max((c.dynamic.search_space for c in dynamic_convs(model).values()), default=1)
    everything = [0.5] * (2 * space)
    cheapest = [float(i % space == space - 1) for i in range(2 * space)]
    for end, choices in (("min", cheapest), ("max", everything)):
        with forced_gates(model, choices), record_cost(model) as record:
            full_macs = count(model, inputs)[0]
        paper = float(record.per_layer(1)["paper"].sum())
        report["paper_gmacs"][end] = (seen - full + paper) / 1e9
        report["full_gmacs"][end] = full_macs / 1e9
    return report


def count(model: BaseModel, inputs: Tensor) -> tuple[float, float, float, dict[str, float]]:
    """MACs that ran; of the dynamic convolutions, and what they are dense; dense GMACs by part."""
    stage = {"stage": "head"} if hasattr(model, "cls_head") else {}
    counter = FlopCounterMode(display=False)
    with counter, record_cost(model) as record, torch.no_grad():
        model(inputs, mode="tensor", **stage)
    table = record.per_layer(1)
    full, dense = float(table["full"].sum()), float(table["dense"].sum())
    by_module = {str(name): sum(v.values()) / 2 for name, v in counter.get_flop_counts().items()}
    parts = {}
    for name, _ in model.named_children():
        macs = by_module.get(f"{type(model).__name__}.{name}", 0)
        own = [i for i, conv in enumerate(record.names) if conv.startswith(f"{name}.")]
        macs += float((table["dense"] - table["full"])[0, own].sum())
        if macs:
            parts[name] = macs / 1e9
    return counter.get_total_flops() / 2, full, dense, parts


def input_of(model: BaseModel, shape: tuple[int, ...]) -> Tensor:
    """One random input of T H W or H W, as the model's data preprocessor would hand it over."""
    generator = torch.Generator().manual_seed(0)
    # MMAction2: clips are (N, views, C, T, H, W) to 3-D networks, (N, T, C, H, W) to 2-D ones.
    layout = getattr(model.data_preprocessor, "format_shape", None)
    if len(shape) not in ((2, 3) if layout is None else (3,)) or min(shape) < 1:
        raise ValueError(f"a shape is T H W for clips or H W for images; came {shape}")
    if layout == "NCHW" and len(shape) == 3:
        return torch.randn(1, shape[0], 3, *shape[1:], generator=generator)
    leading = (1, 1, 3) if layout == "NCTHW" else (1, 3)
    return torch.randn(*leading, *shape, generator=generator)


def measured(model: BaseModel, config: Config, samples: int) -> dict[str, Any]:
    """Average, minimum and maximum over the first `samples` of the config's test set."""
    settings = config.test_dataloader.copy()
    settings.update(batch_size=1, num_workers=0, persistent_workers=False)
    settings.sampler = dict(type="DefaultSampler", shuffle=False)
    settings["num_batch_per_epoch"] = samples
    loader = Runner.build_dataloader(settings)
    end = around_forward(model, "predict", CostWatch(model))
    try:
        with torch.no_grad():
            costs = [
                sample.mac_cost
                for batch in tracked(loader, min(samples, len(loader)), "samples")
                for sample in model.test_step(batch)
            ]
    finally:
        end()
    report = summarise(costs)
    report["params_m"] = sum(p.numel() for p in model.parameters()) / 1e6
    return report
