"""A trained network for tests of export: a config of ten clips, and its checkpoint."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from prepared import lively
from toy import ToyRecognizer, runner_settings

from vared_mm.speed import Speed


@MODELS.register_module()
class StagedToy(ToyRecognizer):
    """Called as MMAction2's recognisers are."""

    def forward(self, inputs, data_samples=None, mode="tensor", stage="head"):
        return super().forward(inputs, data_samples, mode)


def trained_toy(tmp_path):
    """Its gates choose by the clip."""
    settings = runner_settings(tmp_path, dynamic={}, model=dict(type="StagedToy"))
    config = Config(dict(settings, default_scope="mmengine"))
    model = MODELS.build(config.model)
    lively(model.backbone, torch.randn(4, 2, 4, 6, 6))
    file = tmp_path / "toy.pth"
    torch.save({"state_dict": model.state_dict()}, file)
    return config, str(file)


def speeds(**clips_per_second):
    """In the place of `timed_in_turn`."""
    made = {name.replace("_", "-"): Speed(v, v, v) for name, v in clips_per_second.items()}
    return lambda jobs, clips, repeats: {name: made[name] for name in jobs}
