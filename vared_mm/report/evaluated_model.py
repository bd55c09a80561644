"""The model that a result tells of."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.model import BaseModel

from vared_mm.flops import build_model
from vared_mm.report.evaluation_key import weights_digest
from vared_mm.report.result import Result
from vared_mm.shipped import here_or_shipped


def evaluated_model(config: Config, result: Result) -> BaseModel:
    """As built from the result's config and checkpoint.

    Raises:
        ValueError: The checkpoint is not here, or holds other weights by now.
    """
    checkpoint = here_or_shipped(result.checkpoint)
    if not checkpoint.is_file():
        raise ValueError(f"the checkpoint {result.checkpoint} is not here")
    model = build_model(config, str(checkpoint))
    if result.weights not in (None, weights_digest(model.state_dict())):
        raise ValueError(
            f"{result.checkpoint} holds other weights than {result.name} was evaluated with; "
            "evaluate it again"
        )
    return model
