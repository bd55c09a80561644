"""A recogniser small enough to train in a test: a stem, two dynamic convolutions, a linear head."""

import uuid
from contextlib import contextmanager

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, METRICS, MODELS, OPTIM_WRAPPERS
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.checkpoint import checkpoint

from vared_mm.method import DynamicConfig, make_dynamic

CLIPS = 10


class StackInputs(BaseDataPreprocessor):
    def forward(self, data, training=False):
        data = super().forward(data, training)
        return {**data, "inputs": torch.stack(data["inputs"])}


class Head(nn.Linear):
    def forward(self, features):
        return super().forward(features.mean((2, 3, 4)))


@MODELS.register_module()
class ToyRecognizer(BaseModel):
    def __init__(self, dynamic=None, checkpointing=None, loss_weight=1.0):
        super().__init__(StackInputs())
        torch.manual_seed(0)
        self.checkpointing, self.loss_weight = checkpointing, loss_weight
        self.backbone = nn.Sequential(
            nn.Conv3d(2, 4, 1), nn.Conv3d(4, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(),
            nn.Conv3d(8, 8, 1),
        )  # fmt: skip
        self.cls_head = Head(8, 3)
        if dynamic is not None:
            make_dynamic(self.backbone, DynamicConfig(targets="[14]", **dynamic))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        if self.checkpointing is not None and mode == "loss":
            run, kind = self.backbone, self.checkpointing
            features = checkpoint(run, inputs.requires_grad_(), use_reentrant=kind == "reentrant")
        else:
            features = self.backbone(inputs)
        scores = self.cls_head(features)
        if mode == "loss":
            labels = torch.cat([sample.gt_label for sample in data_samples])
            return {"loss_cls": self.loss_weight * nn.functional.cross_entropy(scores, labels)}
        if mode == "predict":
            for sample, row in zip(data_samples, scores, strict=True):
                sample.pred = sample.pred_score = row
            return data_samples
        return scores


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """mmengine's AmpOptimWrapper runs on accelerators alone; autocast itself needs none."""

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield


@DATASETS.register_module()
class ToyClips(BaseDataset):
    """Clips of unlike contents, so that gates have something to tell apart."""

    def load_data_list(self):
        return [{"index": i} for i in range(CLIPS)]

    def prepare_data(self, index):
        generator = torch.Generator().manual_seed(index)
        clip = torch.randn(2, 4, 6, 6, generator=generator) + index - CLIPS / 2
        sample = BaseDataElement(gt_label=torch.tensor([index % 3]))
        return {"inputs": clip, "data_samples": sample}


@METRICS.register_module()
class ToyAccuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [bool(s["pred"].argmax() == s["gt_label"]) for s in data_samples]

    def compute_metrics(self, results):
        return {"accuracy": sum(results) / len(results)}


def runner_settings(work_dir, dynamic=None, hooks=(), epochs=1, model=None, **settings):
    """Arguments of mmengine's Runner for a training and a test of the toy."""
    data = dict(
        batch_size=4,
        num_workers=0,
        dataset=dict(type="ToyClips"),
        collate_fn=dict(type="pseudo_collate"),
    )
    return (
        dict(
            model={"type": "ToyRecognizer", "dynamic": dynamic, **(model or {})},
            work_dir=str(work_dir),
            train_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=True)),
            val_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=False)),
            test_dataloader=dict(data, sampler=dict(type="DefaultSampler", shuffle=False)),
            val_evaluator=[dict(type="ToyAccuracy"), dict(type="CostMetric")],
            test_evaluator=[dict(type="ToyAccuracy"), dict(type="CostMetric")],
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            val_cfg=dict(),
            test_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.05)),
            custom_hooks=list(hooks),
            randomness=dict(seed=0),
            experiment_name=uuid.uuid4().hex,
        )
        | settings
    )


@contextmanager
def one_process():
    """A group of this process alone, as a launcher would make it."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
