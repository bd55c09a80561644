"""What a model costs: dense, and between the cheapest and the costliest choice of its gates.

The unit is the MAC of convolutions and linear layers, counted while they run.
"""

from __future__ import annotations

import copy
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vared_mm.engine.around_forward import around_forward, unwrapped
from vared_mm.engine.cost_hook import CostWatch, views_summed
from vared_mm.engine.cost_metric import summarise
from vared_mm.fast.same_answers import chosen
from vared_mm.method.fixed_gate import has_one_policy
from vared_mm.method.flop_counter import FlopCounter
from vared_mm.method.observe import record_cost
from vared_mm.rivals.weight_pruning import record_uses, zero_macs, zeros_of
from vared_mm.screen import tracked
from vared_mm.settings import named_missing, steps_of
from vared_mm.tensor_form import answer_of, input_of
from vared_mm.weights import load_weights


def build_model(config: Config, checkpoint: str | None = None) -> BaseModel:
    """The config's model in evaluation mode; nothing it names is downloaded.

    What a checkpoint says of its data set, such as the classes, becomes `dataset_meta`, as in the
    toolboxes' own `init_model` and `init_detector`.
    """
    init_default_scope(config.get("default_scope", "mmaction"))
    if not isinstance(config.get("model"), dict):
        raise ValueError("the config has no model")
    settings = copy.deepcopy(config.model)
    backbone = settings.get("backbone", {})
    for part in (settings, backbone, backbone.get("backbone", {})):
        part.pop("init_cfg", None)
        if "pretrained" in part:  # Some want to be told.
            part["pretrained"] = None
    try:
        model: Any = MODELS.build(settings)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the config's model cannot be built: {error}") from error
    if checkpoint:
        model.dataset_meta = load_weights(model, checkpoint).get("dataset_meta") or {}
    return model.eval()


def bounds(model: BaseModel, shape: tuple[int, ...]) -> dict[str, Any]:
    """Dense GMACs for one input of `shape`, T H W or H W, and the range the gates can choose from;
    of a fixed policy what it takes.

    An average needs real inputs (`measured`) and is None here. The ends of `full_gmacs` are those
    of the cheapest and the costliest choice by the paper's formula, for which a weight that is zero
    costs nothing.
    """
    inputs = input_of(model, shape)
    with record_uses(model) as uses:
        seen, full, dense, parts = count(model, inputs)
    kept = seen - full - zero_macs(zeros_of(model), uses)
    report: dict[str, Any] = {
        "dense_gmacs": (seen - full + dense) / 1e9,
        "paper_gmacs": {"avg": None, "min": None, "max": None},
        "full_gmacs": {"avg": None, "min": None, "max": None},
        "params_m": sum(p.numel() for p in model.parameters()) / 1e6,
        "parts_gmacs": parts,
    }
    for end, paths in (("min", "least"), ("max", "all")):
        choice = None if has_one_policy(model) else (paths, paths)
        with chosen(model, choice), record_cost(model) as record:
            full_macs = count(model, inputs)[0]
        paper = float(record.per_layer(1)["paper"].sum())
        report["paper_gmacs"][end] = (kept + paper) / 1e9
        report["full_gmacs"][end] = full_macs / 1e9
    return report


def count(model: BaseModel, inputs: Tensor) -> tuple[float, float, float, dict[str, float]]:
    """MACs that ran; of the dynamic convolutions, and what they are dense; dense GMACs by part."""
    counter = FlopCounter()
    with counter, record_cost(model) as record, torch.no_grad():
        answer_of(model, inputs)
    total, table = counter.get_total_flops() / 2, record.per_layer(1)
    parts = by_part(model, counter)
    full, dense = float(table["full"].sum()), float(table["dense"].sum())
    parts["elsewhere"] = total - sum(parts.values())
    for i, conv in enumerate(record.names):
        name = conv.split(".")[0]
        parts[name] = parts.get(name, 0.0) + float(table["dense"][0, i] - table["full"][0, i])
    return total, full, dense, {name: macs / 1e9 for name, macs in parts.items() if macs}


def by_part(model: nn.Module, counter: FlopCounter) -> dict[str, float]:
    """MACs of each child of the model, as of the outermost modules in it that were called:
    MMSegmentation and MMDetection call `forward` of heads, past their hooks."""
    flops = {name: sum(of.values()) for name, of in counter.get_flop_counts().items()}

    def macs(name: str, module: nn.Module) -> float:
        if name in flops:
            return flops[name] / 2
        return sum(macs(f"{name}.{child}", part) for child, part in module.named_children())

    whole = type(model).__name__
    return {name: macs(f"{whole}.{name}", child) for name, child in model.named_children()}


def loader_of(
    config: Config, batch_size: int = 1, shuffle: bool = False, part: str = "test", **more: Any
) -> DataLoader:
    """The config's validation or test set in this process; shuffled, always in the same order.

    Raises:
        ValueError: without a data set, or for an empty one.
        FileNotFoundError: a file of it is missing; with the settings that name it.
    """
    settings = config.get(f"{part}_dataloader")
    if not settings:
        raise ValueError(f"the config has no {part}_dataloader, which tells what to run on")
    settings = copy.deepcopy(settings)
    settings.pop("batch_sampler", None)
    settings.update(batch_size=batch_size, num_workers=0, persistent_workers=False, **more)
    settings["sampler"] = dict(type="DefaultSampler", shuffle=shuffle, seed=0)
    try:
        return Runner.build_dataloader(settings)
    except FileNotFoundError as error:
        if named := named_missing(config, error):
            raise named from error
        raise


def measured(model: BaseModel, config: Config, samples: int) -> dict[str, Any]:
    """Average, minimum and maximum over the first `samples` of the config's test set, or all."""
    loader = loader_of(config)
    count = min(samples, len(loader))
    watch = CostWatch(model, steps_of(loader.dataset))
    end = around_forward(unwrapped(model), "predict", watch)
    try:
        with torch.no_grad(), views_summed(model):
            costs = [
                sample.mac_cost
                for batch in tracked(islice(loader, count), count, "samples")
                for sample in model.test_step(batch)
            ]
    finally:
        end()
    report = summarise(costs)
    report["params_m"] = sum(p.numel() for p in model.parameters()) / 1e6
    return report
