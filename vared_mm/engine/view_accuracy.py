"""clip-1, video-1 and video-5 from one pass over several views of each video.

A view is one crop of one clip. MMAction2's heads average the views before any metric sees them, so
a hook keeps what the head answered for each: predictions stay as they are, for inference and for
other metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner
from torch import Tensor, nn

from vared_mm.engine.around_forward import Finish, Watch, Watching, around_steps, unwrapped
from vared_mm.method.config import is_whole
from vared_mm.method.observe import Look
from vared_mm.settings import steps_of

# Views that steps of MMAction2 make of each clip; all others make one.
CROPS = {"ThreeCrop": 3, "TenCrop": 10}


@HOOKS.register_module()
class ViewScoresHook(Hook):
    """Attaches `view_scores` (views, classes), as the head gives them, to every prediction, and
    `view_crops`, how many of the views are of one clip; None where the pipeline does not tell it.
    """

    def __init__(self) -> None:
        self._watching: Watching | None = None

    def before_val_epoch(self, runner: Runner) -> None:
        self._watch(runner, runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        self._watch(runner, runner.test_dataloader.dataset)

    def _watch(self, runner: Runner, dataset: Any) -> None:
        self.after_val_epoch(runner)  # of an evaluation that failed
        watch = view_scores(unwrapped(runner.model), crops_of(dataset))
        self._watching = around_steps(runner, "predict", watch)

    def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
        if self._watching:
            self._watching.refuse_unseen(type(self).__name__)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self._watching:
            self._watching()
        self._watching = None

    after_test_iter, after_test_epoch = after_val_iter, after_val_epoch


def crops_of(dataset: Any) -> int | None:
    """How many views the pipeline makes of each clip; None where it has steps of other makers."""
    steps = steps_of(dataset)
    makers = {type(step).__module__.partition(".")[0] for step in steps}
    if not steps or makers - {"mmaction", "mmcv", "vared_mm"}:
        return None
    return math.prod(CROPS.get(type(step).__name__, 1) for step in steps)


def view_scores(model: nn.Module, crops: int | None = None) -> Watch:
    """What keeps the head's answer of a pass in the samples that it predicts."""
    head = getattr(model, "cls_head", None)
    if not isinstance(head, nn.Module):
        raise ValueError(
            f"ViewScoresHook reads the scores of a cls_head, which {type(model).__name__} lacks"
        )

    def watch(stack: ExitStack, arguments: dict[str, Any]) -> Finish:
        seen: list[Any] = []
        stack.callback(Look(head, lambda m, a, out: seen.append(out)).remove)

        def finish(samples: list[Any]) -> list[Any]:
            if len(seen) != 1 or not isinstance(seen[0], Tensor):
                came = type(seen[0]).__name__ if len(seen) == 1 else f"{len(seen)} answers"
                raise ValueError(
                    "ViewScoresHook reads scores (N * views, classes) of the cls_head, called once "
                    f"for all samples; came {came}. Use AccMetric without it"
                )
            scores = seen[0].detach().unflatten(0, (len(samples), -1))
            for sample, own in zip(samples, scores, strict=True):
                sample.view_scores, sample.view_crops = own, crops
            return samples

        return finish

    return watch


@METRICS.register_module()
class ViewAccuracy(BaseMetric):
    """Accuracy of clips and of videos.

    - `acc/clip1`: top-1 of one clip, the centre crop of the centre clip. Of an even number of
      clips none lies in the middle, and the first of the later half is taken.
    - `acc/video1`, `acc/video5`: top-1 and top-5 of the softmax mean over all views. Left out
      where every video has one view alone.

    Of classes with equal scores the true one counts as the last: a model that tells nothing apart
    is right about nothing.

    Args:
        crops: Crops of each clip, in the order of MMAction2's `ThreeCrop`, whose last one is the
            centre, as is that of `TenCrop`, mirrored; all clips of a crop stand together. Where
            videos have several views and the pipeline takes other crops, that is refused.
    """

    default_prefix = "acc"
    needs_hook = "ViewScoresHook"

    def __init__(self, crops: int = 3, collect_device: str = "cpu") -> None:
        super().__init__(collect_device=collect_device)
        if not is_whole(crops, 1):
            raise ValueError(f"crops is {crops!r}; wanted a whole number from 1 up")
        self.crops = crops

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            if "view_scores" not in sample:
                raise ValueError(
                    "ViewAccuracy found a prediction without the scores of its views; add "
                    "dict(type='ViewScoresHook') to custom_hooks, which keeps them"
                )
            if sample["gt_label"].numel() != 1:
                raise ValueError(
                    f"ViewAccuracy counts samples of one label; came a gt_label of "
                    f"{sample['gt_label'].numel()} numbers. Of several labels, use "
                    "dict(type='AccMetric', metric_list=('mean_average_precision',))"
                )
            scores, label = sample["view_scores"], int(sample["gt_label"])
            if not 0 <= label < scores.shape[1]:
                raise ValueError(
                    f"ViewAccuracy found the label {label} beside the scores of {scores.shape[1]} "
                    f"classes; wanted 0 to {scores.shape[1] - 1}"
                )
            self.check_crops(len(scores), sample.get("view_crops"))
            clip = scores[centre_view(len(scores), self.crops)]
            self.results.append((len(scores), rank(clip, label), rank(video_score(scores), label)))

    def check_crops(self, views: int, taken: int | None) -> None:
        if views > 1 and taken not in (None, self.crops):
            raise ValueError(
                f"ViewAccuracy has crops={self.crops}, and the pipeline takes {taken} of each "
                f"clip: of {views} views it would count another for the centre one; set "
                f"dict(type='ViewAccuracy', crops={taken})"
            )

    def compute_metrics(self, results: list[tuple[int, int, int]]) -> dict[str, float]:
        views, clips, videos = torch.tensor(results).unbind(1)

        def top(k: int, ranks: Tensor) -> float:
            return (ranks < k).double().mean().item()

        metrics = {"clip1": top(1, clips)}
        if (views > 1).any():
            metrics |= {"video1": top(1, videos), "video5": top(5, videos)}
        return metrics


def centre_view(views: int, crops: int) -> int:
    """Which of a video's views is the centre crop of the centre clip; a lone view is."""
    if views == 1:
        return 0
    clips, rest = divmod(views, crops)
    if rest:
        raise ValueError(f"{views} views of a video are not {crops} crops of each clip")
    return (crops - 1) * clips + clips // 2


def video_score(scores: Tensor) -> Tensor:
    """(views, classes) scores before the softmax to (classes,)."""
    return scores.double().softmax(1).mean(0)


def rank(scores: Tensor, label: int) -> int:
    """How many other classes score at least as high as the true one; NaN counts as high."""
    return int((~(scores < scores[label])).sum()) - 1
