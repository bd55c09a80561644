"""The clips and the model behind a result: what was evaluated, taken up again one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope

from vared_mm.datasets.video_guard import BrokenVideoError
from vared_mm.engine.views import rows_are_frames
from vared_mm.method.observe import dynamic_convs
from vared_mm.report.evaluated_model import evaluated_config, evaluated_model
from vared_mm.report.evaluation_samples import describe
from vared_mm.report.feature_maps import LayerMaps, chosen_layers, kept_maps
from vared_mm.report.film_strips import Strip, frames_seen
from vared_mm.report.plot_style import NoPictureError
from vared_mm.report.result import Result, Samples
from vared_mm.settings import kind, pipeline_of
from vared_mm.shipped import here_or_shipped


class EvaluatedClips:
    """A result's data set and, when asked for, its model.

    Args:
        options: What to override in the config besides what the evaluation did.
    """

    def __init__(
        self, result: Result, samples: Samples, options: Mapping[str, Any] | None = None
    ) -> None:
        self.result, self.samples = result, samples
        if not here_or_shipped(result.config).is_file():
            raise NoPictureError(
                f"the config {result.config} of {result.name} is not here; call from the folder "
                "that it was evaluated in"
            )
        try:
            self.config = evaluated_config(result, options)
        except ValueError as error:
            raise NoPictureError(str(error)) from error
        init_default_scope(self.config.get("default_scope", "mmaction"))
        self.dataset = self._data()

    def _data(self) -> Any:
        try:
            dataset = DATASETS.build(self.config.test_dataloader.dataset)
        except OSError as error:
            raise NoPictureError(
                f"the data that {self.result.name} was evaluated on are not here ({error}); name "
                "their place with --cfg-options"
            ) from error
        came, wanted = describe(dataset, self.result.data.classes)[0], self.result.data
        if came.fingerprint != wanted.fingerprint:
            raise NoPictureError(
                f"{self.result.name} was evaluated on {wanted.samples} samples of {wanted.file} "
                f"with fingerprint {wanted.fingerprint[:12]}; here are {came.samples} of "
                f"{came.file} with {came.fingerprint[:12]}; name the place of the former with "
                "--cfg-options, or evaluate it again"
            )
        return dataset

    def packed(self, place: int) -> dict[str, Any]:
        """A sample as the test pipeline gives it, before it is normalised; of augmented views the
        first."""
        try:
            packed = self.dataset[place]
        except (OSError, BrokenVideoError) as error:
            file = self.samples.file[place]
            raise NoPictureError(f"{file} cannot be read: {error}") from error
        if not isinstance(packed["inputs"], list):
            return packed
        return {name: views[0] for name, views in packed.items()}

    def strip(self, place: int, group: str) -> Strip:
        frames = frames_seen(self.packed(place), is_bgr(self.config))
        return Strip(group, str(self.samples.file[place]), float(self.samples.share[place]), frames)

    def maps(self, place: int, pattern: str | None = None) -> list[LayerMaps]:
        """Of the layers that match, else of four, as they come out for this sample."""
        names = self.samples.layer_names.tolist()
        layers = chosen_layers(names, self.samples.layer_share[place], pattern)
        try:
            model = evaluated_model(self.config, self.result)
        except ValueError as error:
            raise NoPictureError(str(error)) from error
        convs = dynamic_convs(model)
        if missing := [name for name in layers if name not in convs]:
            raise ValueError(
                f"{missing[0]} was dynamic when {self.result.name} was evaluated and is not now; "
                "leave the model as it was, or evaluate it again"
            )
        wanted = {name: convs[name] for name in layers}
        with torch.no_grad(), kept_maps(wanted, rows_are_frames(model)) as kept:
            model.test_step(pseudo_collate([self.packed(place)]))
        return kept

    def place_of(self, file: str) -> int:
        """Where in the data set a file stands, by its path or, if there is one such, its name."""
        files = self.samples.file
        for same in (files == file, np.char.endswith(files, f"/{file}")):
            if same.sum() == 1:
                return int(same.argmax())
        raise ValueError(
            f"{file} is {'more than one' if same.any() else 'none'} of the {len(files)} samples of "
            f"{self.result.name}, which are named like {files[0]}"
        )


def is_bgr(config: Config) -> bool:
    """Whether the test pipeline's pictures are in OpenCV's order of colours."""
    # Of a model that augments, that of what it runs.
    model = config.model.get("module") or config.model
    settings = model.get("data_preprocessor") or config.get("data_preprocessor") or {}
    # As MMSegmentation and MMDetection, and as MMAction2 names it.
    if settings.get("bgr_to_rgb") or settings.get("to_rgb"):
        return True
    # Networks may want that order, as those whose weights come from Caffe.
    return "LoadImageFromFile" in map(kind, pipeline_of(config))
