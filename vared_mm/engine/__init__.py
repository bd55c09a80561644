"""Bindings to mmengine: the efficiency loss, the cost of each prediction."""

from vared_mm.engine.channels_last_hook import ChannelsLastHook
from vared_mm.engine.check_clip_labels_hook import CheckClipLabelsHook
from vared_mm.engine.check_labels_hook import CheckLabelsHook
from vared_mm.engine.cost_hook import CostHook
from vared_mm.engine.cost_metric import CostMetric
from vared_mm.engine.efficiency_loss_hook import EfficiencyLossHook
from vared_mm.engine.finite_scores_hook import FiniteScoresHook
from vared_mm.engine.jhmdb_metric import JHMDBMetric
from vared_mm.engine.merged_groups import MergedGroupsConstructor
from vared_mm.engine.policy_log_hook import PolicyLogHook
from vared_mm.engine.progress_bar_hook import ProgressBarHook
from vared_mm.engine.prune_weights_hook import PruneWeightsHook
from vared_mm.engine.teach_gates_hook import TeachGatesHook
from vared_mm.engine.threshold_loss_hook import ThresholdLossHook
from vared_mm.engine.tsm_groups import apply
from vared_mm.engine.view_accuracy import ViewAccuracy, ViewScoresHook

__all__ = [
    "ChannelsLastHook",
    "CheckClipLabelsHook",
    "CheckLabelsHook",
    "CostHook",
    "CostMetric",
    "EfficiencyLossHook",
    "FiniteScoresHook",
    "JHMDBMetric",
    "MergedGroupsConstructor",
    "PolicyLogHook",
    "ProgressBarHook",
    "PruneWeightsHook",
    "TeachGatesHook",
    "ThresholdLossHook",
    "ViewAccuracy",
    "ViewScoresHook",
]

apply()
