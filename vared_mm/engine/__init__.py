"""Bindings to mmengine: the efficiency loss, the cost of each prediction."""

from vared_mm.engine.cost_hook import CostHook
from vared_mm.engine.cost_metric import CostMetric
from vared_mm.engine.efficiency_loss_hook import EfficiencyLossHook

__all__ = ["CostHook", "CostMetric", "EfficiencyLossHook"]
