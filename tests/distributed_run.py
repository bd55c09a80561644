"""Tests the toy and trains it one step on all clips, in as many processes as torchrun started."""

import json
import os
import sys
from pathlib import Path

import torch
import toy
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import nn

import vared_mm  # noqa: F401

torch.set_num_threads(1)
wrapper = dict(type="MMDistributedDataParallel", broadcast_buffers=False)
if "nccl" not in sys.argv:  # mmengine's own start of the processes asks for GPUs
    torch.distributed.init_process_group("gloo")
    wrapper["device_ids"] = None
hooks = [
    dict(type="EfficiencyLossHook", correct="always", ramp=0.0, weight=5.0),
    dict(type="CostHook"),
]
# Half of the clips at a time are another batch for BatchNorm, so that the classification loss
# would differ: the efficiency loss trains alone.
settings = toy.runner_settings(
    sys.argv[1], dynamic={}, hooks=hooks, model=dict(loss_weight=0.0),
    cfg=dict(model_wrapper_cfg=wrapper), launcher="pytorch",
)  # fmt: skip
settings["train_dataloader"]["batch_size"] = toy.CLIPS // int(os.environ["WORLD_SIZE"])
runner = Runner(**settings)

gate = runner.model.module.backbone[1].gate
nn.init.normal_(gate.weight2, std=3, generator=torch.Generator().manual_seed(0))
metrics = runner.test()
summary = runner.test_evaluator.metrics[1].summary
nn.init.zeros_(gate.weight2)
runner.train()
if is_main_process():
    result = dict(metrics=metrics, summary=summary, beta=gate.beta.tolist())
    Path(sys.argv[1], "result.json").write_text(json.dumps(result))
# The first process holds the store that the others still talk to.
torch.distributed.barrier()
torch.distributed.destroy_process_group()
