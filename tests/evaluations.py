"""What an evaluation needs in a test: weights, its task, a small config and samples by hand."""

import torch
import toy
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch import nn

from vared_mm.flops import build_model
from vared_mm.report.evaluation import Evaluation


def weights(config, path, seed=0):
    """A checkpoint whose gates tell inputs apart."""
    torch.manual_seed(seed)
    model = build_model(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("gate.weight2"):
            nn.init.normal_(parameter, std=3, generator=generator)
    meta = {"cfg": "train_cfg = dict(max_epochs=3)"}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
    return path


def job(folder, checkpoint, **settings):
    settings = {"chunk": 4, **settings}
    return Evaluation("some/where/net.py", {}, checkpoint, folder / "out", **settings)


def toy_config(folder, **settings):
    """10 clips in batches of 2, a model of microseconds."""
    hooks = [dict(type="CostHook")]
    config = Config(toy.runner_settings(folder, dynamic={}, hooks=hooks, **settings))
    config.test_dataloader.batch_size = 2
    return config


@DATASETS.register_module()
class Listed(BaseDataset):
    """Samples as the config lists them."""

    def __init__(self, samples, **settings):
        self.samples = samples
        super().__init__(**settings)

    def load_data_list(self):
        return [dict(sample) for sample in self.samples]
