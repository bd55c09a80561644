"""The smallest weights of the whole network are zero, stay so, and cost nothing by formula."""

import copy
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.engine.prune_weights_hook import PruneWeightsHook, counted
from vared_mm.method import DynamicError
from vared_mm.rivals.cgnet import CGNetConfig, make_cgnet
from vared_mm.rivals.weight_pruning import (
    apply_masks,
    masks_for,
    record_uses,
    zero_macs,
    zeros_of,
)

CONFIGS = Path(__file__).parents[1] / "configs"
POSITIONS = 4 * 6 * 6
# MACs of the toy for one clip, layer by layer: a stem, two convolutions, the classifier.
STEM, WIDE, POINT, HEAD = POSITIONS * 2 * 4, POSITIONS * 4 * 8 * 27, POSITIONS * 8 * 8, 8 * 3
TOTAL = STEM + WIDE + POINT + HEAD
PRUNED = ("backbone.1", "backbone.4")


def hook(share=0.5):
    return dict(type="PruneWeightsHook", share=share)


def trained(work_dir, hooks, **settings):
    hooks = [*hooks, dict(type="CostHook")]
    runner = Runner(**toy.runner_settings(work_dir, hooks=hooks, **settings))
    runner.train()
    return runner


def saved(work_dir, epoch=1, part="state_dict"):
    file = work_dir / f"epoch_{epoch}.pth"
    state = torch.load(file, weights_only=True)[part]
    return {name.removeprefix("module."): value for name, value in state.items()}


def kept_in(state):
    return {name: state[f"{name}.weight"] != 0 for name in PRUNED}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in PRUNED)


def share_by_hand(state):
    macs = dict(zip(PRUNED, (WIDE, POINT), strict=True))
    kept = sum(macs[n] * mask.double().mean().item() for n, mask in kept_in(state).items())
    return (STEM + HEAD + kept) / TOTAL


class Net(nn.Module):
    """With a convolution of each kind between the first one and the classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.never = nn.Conv2d(6, 6, 1)
        self.head = nn.Conv2d(6, 5, 1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.up(self.grouped(self.grouped(x))))


def test_uses_are_positions_and_the_macs_are_those_of_torch_s_counter():
    net = Net()
    with (
        FlopCounterMode(display=False) as counter,
        record_uses(net) as uses,
    ):
        net(torch.randn(2, 3, 13, 13))
    # 6 x 6 after the stem, 12 x 12 after the transposed one; the grouped one runs twice.
    assert uses == {"stem": 2 * 36, "grouped": 2 * 36 * 2, "up": 2 * 36, "head": 2 * 144}
    whole = {name: net.get_submodule(name).weight.numel() for name in uses}
    assert zero_macs(whole, uses) == counter.get_total_flops() / 2


def masks_of(model, share):
    clips = [toy.ToyClips().prepare_data(i) for i in range(2)]
    batch = {key: [clip[key] for clip in clips] for key in clips[0]}
    return masks_for(model, *counted(model, batch), share)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_the_share_is_met_by_the_weights_of_least_magnitude_of_all(share):
    model = toy.ToyRecognizer()
    with torch.no_grad():
        model.backbone[4].weight *= 3
    before = copy.deepcopy(model)
    masks = masks_of(model, share)
    apply_masks(model, masks)
    assert set(masks) == set(PRUNED)
    # One weight of the wide convolution takes 144 of 136,000 MACs.
    assert share - 1.1e-3 < share_by_hand(model.state_dict()) <= share
    weights = [before.get_submodule(name).weight for name in PRUNED]
    kept = torch.cat([w[masks[n]] for n, w in zip(PRUNED, weights, strict=True)]).abs()
    gone = torch.cat([w[~masks[n]] for n, w in zip(PRUNED, weights, strict=True)]).abs()
    assert kept.min() > gone.max()
    assert all(torch.equal(model.get_submodule(n).weight[masks[n]], w[masks[n]])
               for n, w in zip(PRUNED, weights, strict=True))  # fmt: skip


def test_a_network_with_a_zero_among_thousands_of_weights_is_not_pruned():
    net = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 10))
    with torch.no_grad():
        net[0].weight[0, :10] = 0
        assert not zeros_of(net)
        net[0].weight[0, :20] = 0
    assert zeros_of(net) == {"0": 20}


def test_share_one_prunes_nothing():
    model = toy.ToyRecognizer()
    apply_masks(model, masks_of(model, 1.0))
    assert not zeros_of(model)


def test_what_is_pruned_stays_so_and_the_checkpoint_is_the_plain_network_s(tmp_path):
    optimizer = dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=0.01)
    runner = trained(tmp_path, [hook()], optim_wrapper=dict(optimizer=optimizer))
    state = saved(tmp_path)
    assert share_by_hand(state) == pytest.approx(0.5, abs=1.1e-3)
    assert list(state) == list(toy.ToyRecognizer().state_dict())
    toy.ToyRecognizer().load_state_dict(state, strict=True)
    begun = toy.ToyRecognizer()
    masks = masks_of(begun, 0.5)
    assert same(kept_in(state), masks)
    # The rest learns, the first convolution and the classifier with all of their weights.
    for name in (*PRUNED, "backbone.0", "cls_head"):
        moved = runner.model.get_submodule(name).weight != begun.get_submodule(name).weight
        assert moved[masks.get(name, torch.ones_like(moved))].all()


@pytest.mark.parametrize("how", ["resume", "load_from"])
def test_a_training_that_goes_on_keeps_the_masks(tmp_path, how):
    trained(tmp_path / "first", [hook()])
    file = str(tmp_path / "first" / "epoch_1.pth")
    trained(tmp_path / how, [hook()], epochs=2, load_from=file, resume=how == "resume")
    assert same(kept_in(saved(tmp_path / "first")), kept_in(saved(tmp_path / how, 2)))


def test_a_dense_training_that_goes_on_is_pruned_whatever_few_zeros_it_has(tmp_path):
    runner = Runner(**toy.runner_settings(tmp_path / "first", hooks=[dict(type="CostHook")]))
    wide = runner.model.backbone[1].weight.requires_grad_(False)
    wide.view(-1)[:3] = 0
    assert zeros_of(runner.model)
    runner.train()
    file = str(tmp_path / "first" / "epoch_1.pth")
    trained(tmp_path / "on", [hook()], epochs=2, load_from=file, resume=True)
    assert share_by_hand(saved(tmp_path / "on", 2)) == pytest.approx(0.5, abs=1.1e-3)


def test_a_training_that_goes_on_with_another_share_is_refused(tmp_path):
    trained(tmp_path, [hook()])
    with pytest.raises(ValueError, match=r"share is 0.3, and the training .* pruned to 0.5; resum"):
        trained(tmp_path, [hook(0.3)], epochs=2, resume=True)


def test_averaged_weights_are_zero_where_the_network_s_are_and_after_a_resume_too(tmp_path):
    hooks = [dict(type="EMAHook", momentum=0.1), hook()]
    trained(tmp_path / "a", hooks)
    file = str(tmp_path / "a" / "epoch_1.pth")
    trained(tmp_path / "b", hooks, epochs=2, load_from=file, resume=True)
    for folder, epoch in (("a", 1), ("b", 2)):
        average, own = (
            saved(tmp_path / folder, epoch, part) for part in ("state_dict", "ema_state_dict")
        )
        assert same(kept_in(average), kept_in(own))
        assert not torch.equal(average["backbone.4.weight"], own["backbone.4.weight"])
        assert share_by_hand(average) == pytest.approx(0.5, abs=1.1e-3)


def test_the_cost_metric_tells_it_by_formula_and_what_is_computed(tmp_path):
    runner = trained(tmp_path, [hook()])
    told = runner.test()
    by_hand = share_by_hand(runner.model.state_dict())
    assert told["cost/paper_gmacs"] == pytest.approx(by_hand * TOTAL / 1e9)
    assert told["cost/full_gmacs"] == told["cost/dense_gmacs"] == pytest.approx(TOTAL / 1e9)
    summary = runner.test_evaluator.metrics[1].summary
    assert summary["zero_gmacs"] == pytest.approx((1 - by_hand) * TOTAL / 1e9)


@pytest.mark.parametrize(("clip", "frames", "gmacs"), [
    ("8x8x1", 8, 19.9), ("16x4x1", 16, 40.3), ("32x2x1", 32, 79.6),
])  # fmt: skip
def test_the_paper_s_costs_are_reached_by_its_networks(clip, frames, gmacs):
    name = f"pruned-r2plus1d_r18_8xb12-{clip}-120e_mini-kinetics200-rgb.py"
    config = Config.fromfile(CONFIGS / "recognition" / "r2plus1d" / name)
    (share,) = (h.share for h in config.custom_hooks if h.type == "PruneWeightsHook")
    network = paper_network()
    init_default_scope("mmaction")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        shapes = MODELS.build(config.model).eval()
        with record_uses(shapes) as uses:
            shapes(torch.empty(1, 1, 3, frames, 128, 128), mode="tensor", stage="head")
    total = counter.get_total_flops() / 2
    pruned = {n: int((~mask).sum()) for n, mask in masks_for(network, uses, total, share).items()}
    assert (total - zero_macs(pruned, uses)) / 1e9 == pytest.approx(gmacs, rel=1e-3)


@cache
def paper_network():
    init_default_scope("mmaction")
    name = "r2plus1d_r18_8xb12-8x8x1-120e_mini-kinetics200-rgb.py"
    return MODELS.build(Config.fromfile(CONFIGS / "recognition" / "r2plus1d" / name).model)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), "0.5", None])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="wanted a part of the MACs, above 0 and up to 1"):
        PruneWeightsHook(share)


def test_less_than_the_left_out_layers_cost_is_refused_with_the_least_there_is(tmp_path):
    least = (STEM + HEAD) / TOTAL
    with pytest.raises(ValueError, match=f"share=0.005 .* cannot be reached: .* cost {least:.4f}"):
        trained(tmp_path, [hook(share=0.005)])


def test_a_dynamic_network_is_refused(tmp_path):
    with pytest.raises(DynamicError, match="prunes static networks, and backbone.1 of ToyRecog"):
        trained(tmp_path, [hook()], dynamic={})


def test_networks_whose_cost_a_gate_or_a_choice_decides_are_refused():
    gated = nn.Sequential(nn.Conv3d(8, 8, 1), nn.Conv3d(8, 8, 1))
    make_cgnet(gated, CGNetConfig(targets="1"))
    choosing = nn.Sequential(nn.Conv3d(8, 8, 1))
    choosing.record_cost = lambda: None
    for net, told in ((gated, "1 of Sequential has a gate"), (choosing, "chooses what it runs")):
        with pytest.raises(DynamicError, match=f"prunes static networks, and .*{told}"):
            PruneWeightsHook(0.5).before_train(SimpleNamespace(model=net))


@DATASETS.register_module()
class SmallClips(toy.ToyClips):
    def prepare_data(self, index):
        sample = super().prepare_data(index)
        return {**sample, "inputs": sample["inputs"][..., :4, :4].contiguous()}


def test_what_goes_on_from_a_checkpoint_keeps_its_zeros_whatever_the_size_of_its_clips(tmp_path):
    trained(tmp_path / "a", [hook()])
    first = saved(tmp_path / "a")
    loader = dict(
        batch_size=4, num_workers=0, dataset=dict(type="SmallClips"),
        collate_fn=dict(type="pseudo_collate"), sampler=dict(type="DefaultSampler", shuffle=True),
    )  # fmt: skip
    runner = trained(
        tmp_path / "b", [hook()], epochs=2, resume=True, train_dataloader=loader,
        load_from=str(tmp_path / "a" / "epoch_1.pth"),
    )  # fmt: skip
    assert runner.iter > 3
    assert same(kept_in(first), kept_in(saved(tmp_path / "b", 2)))


@MODELS.register_module()
class TwoLayers(toy.ToyRecognizer):
    def __init__(self, dynamic=None):
        super().__init__()
        self.backbone = nn.Conv3d(2, 8, 1)


def test_a_network_of_a_stem_and_a_classifier_is_refused(tmp_path):
    with pytest.raises(ValueError, match="TwoLayers has 2 convolutions .* wanted one at least bes"):
        trained(tmp_path, [hook()], model=dict(type="TwoLayers"))
