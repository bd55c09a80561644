"""Tests the toy, shifts its gates to a budget and trains it, in as many processes as torchrun
started: one step on all clips, and two on half of them each with taught gates, or pruned.
"""

import json
import os
import sys
from pathlib import Path

import torch
import toy
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.report import budget

torch.set_num_threads(1)
wrapper = dict(type="MMDistributedDataParallel", broadcast_buffers=False)
if "nccl" not in sys.argv:  # mmengine's own start of the processes asks for GPUs
    torch.distributed.init_process_group("gloo")
    wrapper["device_ids"] = None
hooks = [
    dict(type="EfficiencyLossHook", correct="always", ramp=0.0, weight=5.0),
    dict(type="CostHook"),
]
processes = int(os.environ["WORLD_SIZE"])


def runner_of(name, batch_size, **settings):
    folder = Path(sys.argv[1], name)
    distributed = dict(cfg=dict(model_wrapper_cfg=wrapper), launcher="pytorch")
    settings = toy.runner_settings(folder, **settings, **distributed)
    settings["train_dataloader"]["batch_size"] = batch_size
    return Runner(**settings)


def of_each_process(told):
    all_told = [None] * processes
    torch.distributed.all_gather_object(all_told, told)
    return all_told


# Half of the clips at a time are another batch for BatchNorm, so that the classification loss
# would differ: the efficiency loss trains alone.
runner = runner_of(
    "whole", toy.CLIPS // processes, dynamic={}, hooks=hooks, model=dict(loss_weight=0.0)
)
gate = runner.model.module.backbone[1].gate
nn.init.normal_(gate.weight2, std=3, generator=torch.Generator().manual_seed(0))
metrics = runner.test()
summary = runner.test_evaluator.metrics[1].summary

looked = []
test_step = toy.ToyRecognizer.test_step
toy.ToyRecognizer.test_step = lambda *of: looked.append(len(of[1]["inputs"])) or test_step(*of)
start, shifted = (Path(sys.argv[1], name) for name in ("start.pth", "shifted.pth"))
if is_main_process():
    torch.save({"state_dict": runner.model.module.state_dict()}, start)
torch.distributed.barrier()
settings = toy.runner_settings("unused", {})
config = Config({key: settings[key] for key in ("model", "val_dataloader")})
found = budget.write_at_budgets(config, start, {0.7: shifted})[0.7]
found = of_each_process((*found, sum(looked)))
toy.ToyRecognizer.test_step = test_step

nn.init.zeros_(gate.weight2)
runner.train()

teach = [dict(type="TeachGatesHook"), dict(type="CostHook")]
half = -(-toy.CLIPS // (2 * processes))
taught = runner_of(
    "taught", half, dynamic=dict(normalised=True), hooks=teach,
    train_cfg=dict(type="IterBasedTrainLoop", max_iters=2, val_interval=9),
    default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2)),
)  # fmt: skip
nn.init.ones_(taught.model.module.backbone[2].running_mean)  # The start is not an untrained one.
taught.train()
state = taught.model.module.backbone[1].gate.state_dict()
weights = of_each_process([value.tolist() for value in state.values()])

prune = [dict(type="PruneWeightsHook", share=0.5), dict(type="CostHook")]
pruned = runner_of("pruned", half, hooks=prune)
pruned.train()
zeros = of_each_process((pruned.model.module.backbone[1].weight == 0).flatten().tolist())

if is_main_process():
    result = dict(metrics=metrics, summary=summary, beta=gate.beta.tolist(), zeros=zeros)
    result["budget"] = found
    betas = [torch.load(file, weights_only=True)["state_dict"]["backbone.1.gate.beta"]
             for file in (start, shifted)]  # fmt: skip
    result["moved"] = (betas[1] - betas[0]).tolist()
    result["alike"] = all(one == weights[0] for one in weights)
    saved = torch.load(Path(taught.work_dir, "iter_2.pth"), weights_only=True)["state_dict"]
    result["saved"] = all(torch.equal(saved[f"backbone.1.gate.{k}"], v) for k, v in state.items())
    Path(sys.argv[1], "result.json").write_text(json.dumps(result))
# The first process holds the store that the others still talk to.
torch.distributed.barrier()
torch.distributed.destroy_process_group()
