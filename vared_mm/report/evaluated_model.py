"""The config and the model that a result tells of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel

from vared_mm.engine.around_forward import unwrapped
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.report.evaluation_key import settings_digest, weights_digest
from vared_mm.report.result import Result
from vared_mm.shipped import here_or_shipped


def evaluated_config(result: Result, options: Mapping[str, Any] | None = None) -> Config:
    """As the evaluation had it, and then with `options` of one's own.

    Raises:
        ValueError: It says something else by now.
    """
    config = config_of(result.config, result.options)
    # Results of former versions may not tell it.
    if result.settings not in (None, settings_digest(config)):
        raise ValueError(
            f"the config {result.config} says something else than when {result.name} was evaluated "
            f"with {result.checkpoint}: it, a config that it is based on or a variable of the "
            "environment that it reads was changed; change it back, or evaluate it again"
        )
    return config_of(result.config, {**result.options, **options}) if options else config


def evaluated_model(config: Config, result: Result) -> BaseModel:
    """As built from the result's config and checkpoint.

    Raises:
        ValueError: The checkpoint is not here, or holds other weights by now.
    """
    checkpoint = here_or_shipped(result.checkpoint)
    if not checkpoint.is_file():
        raise ValueError(f"the checkpoint {result.checkpoint} is not here")
    # Of a model that augments, the evaluation told of what it runs.
    model: Any = unwrapped(build_model(config, str(checkpoint)))
    if result.weights not in (None, weights_digest(model.state_dict())):
        raise ValueError(
            f"{result.checkpoint} holds other weights than {result.name} was evaluated with; "
            "evaluate it again"
        )
    return model
