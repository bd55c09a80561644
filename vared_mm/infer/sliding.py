"""What a recognizer says of the last frames of a video, again and again while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope

from vared_mm.engine.around_forward import around_forward
from vared_mm.engine.cost_hook import CostWatch
from vared_mm.engine.cost_metric import SampleCost, together
from vared_mm.engine.scores import one_score_a_class
from vared_mm.engine.views import rows_are_frames
from vared_mm.fast import prepare_for_inference
from vared_mm.infer.recognition import best, one_sample_a_clip
from vared_mm.infer.rows import check_finite
from vared_mm.settings import kind, pipeline_of


@dataclass(frozen=True)
class Answer:
    """Of one clip; `milliseconds` are those of the network, without decoding and resizing."""

    label: int
    score: float
    cost: SampleCost
    milliseconds: float


class SlidingClips:
    """Asks a model in evaluation mode, made ready for speed with the first clip, about frames in
    memory, as the config's test pipeline would about those of a file.

    A clip is one, whatever number of them the pipeline takes of a video; of 2-D networks, which
    see frames here and there in it, their number stays.

    Args:
        frames: How many the pipeline chooses from; by default as many as a clip spans.
        precision: As `prepare_for_inference` takes it.

    Raises:
        ValueError: The test pipeline is none of videos.
    """

    def __init__(
        self,
        model: BaseModel,
        config: Config,
        frames: int | None = None,
        precision: str = "auto",
    ) -> None:
        self._precision = precision
        init_default_scope(config.get("default_scope", "mmaction"))
        steps = pipeline_of(config)
        kinds = [kind(step) for step in steps]
        decode = next((i for i, name in enumerate(kinds) if name.endswith("Decode")), 0)
        choosing = [dict(step) for step in steps[:decode] if not kind(step).endswith("Init")]
        if not choosing or "clip_len" not in choosing[0]:
            raise ValueError(
                "wanted a test pipeline of videos, which chooses frames, with a clip_len, and then "
                f"decodes them; this one has {kinds}"
            )
        first = choosing[0]
        if not rows_are_frames(model) and "num_clips" in first:
            first["num_clips"] = 1
        taken = first["clip_len"] * first.get("num_clips", 1)
        span = taken * first.get("frame_interval", 1)
        self.frames = frames or span
        self.model, self._is_prepared = model, False
        self._choose, self._rest = Compose(choosing), Compose(list(steps[decode + 1 :]))
        self._watch = CostWatch(model, self._choose.transforms)
        # Of a longer video, those of a clip that is no longer lie within its span.
        if frames is None and np.ptp(self._chosen(4 * span)["frame_inds"][:taken]) >= span:
            print_log(
                f"{kind(first)} spreads a clip over more of a longer video, as the network was "
                f"trained, and here over {span} frames. Give --window as many frames as a clip "
                "was spread over there", "current", logging.WARNING,
            )  # fmt: skip

    def __call__(self, frames: Sequence[np.ndarray]) -> Answer:
        """Of the last BGR frames uint8 (H, W, 3), `self.frames` of them."""
        batch = self._clip(frames)
        if not self._is_prepared:
            self._ask(batch)  # counts what is not dynamic, which a prepared model hides
            self._prepare(batch)
        start = time.perf_counter()
        scores, cost = self._ask(batch)
        took = 1000 * (time.perf_counter() - start)
        check_finite(scores)
        return Answer(**best(scores), cost=cost, milliseconds=took)

    def _chosen(self, total: int) -> dict[str, Any]:
        return self._choose(
            dict(total_frames=total, start_index=0, modality="RGB", label=-1, filename="")
        )

    def _clip(self, frames: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        shape = frames[0].shape[:2]
        sample = self._chosen(len(frames))
        imgs = [cv2.cvtColor(frames[i], cv2.COLOR_BGR2RGB) for i in sample["frame_inds"]]
        packed = self._rest({**sample, "imgs": imgs, "img_shape": shape, "original_shape": shape})
        return one_sample_a_clip(packed["inputs"], packed["data_samples"])

    def _ask(self, batch: dict[str, list[Any]]) -> tuple[torch.Tensor, SampleCost]:
        # The given model keeps no hook, which would go into its copies.
        end = around_forward(self.model, "predict", self._watch)
        try:
            with torch.no_grad():
                samples = self.model.test_step(batch)
        finally:
            end()
        each = [one_score_a_class(sample.pred_score, self.model) for sample in samples]
        scores = torch.stack(each)
        return scores.mean(0).cpu(), together([sample.mac_cost for sample in samples])

    def _prepare(self, batch: dict[str, list[Any]]) -> None:
        self._is_prepared = True
        inputs = self.model.data_preprocessor(batch)["inputs"]
        try:
            model: Any = prepare_for_inference(
                self.model, inputs, precision=self._precision, mode="tensor", stage="head"
            )
        except (TypeError, ValueError) as error:
            print_log(f"the model runs as it is: {error}", "current", logging.WARNING)
            return
        self.model = self._watch.model = model
