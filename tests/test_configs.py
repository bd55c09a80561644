"""Configs of clips load and build, and cost what the index page and the paper's tables say."""

import math
import re
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.method.observe import dynamic_convs
from vared_mm.rivals.cgnet import channel_gated
from vared_mm.rivals.ghost import ghosts

CONFIGS = Path(__file__).parent.parent / "configs"
LEAVES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.py")
    if "_base_" not in path.parts
    and not path.name.startswith("_base_")
    # Those of images have tests of their own.
    and path.relative_to(CONFIGS).parts[0] not in ("segmentation", "detection")
)
TRAINED = [leaf for leaf in LEAVES if leaf.startswith("recognition")]


class Row(NamedTuple):
    table: str
    what: str
    config: str
    shape: tuple[int, int]
    dense: float
    least: float | None
    paper: float | None
    average: float | None


def number(cell):
    found = re.match(r"[\d.]+", cell)
    return float(found[0]) if found else None


def index_page():
    for line in (CONFIGS / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0].isdigit():
            config = re.search(r"\((.+)\)$", cells[2])[1]
            shape = tuple(map(int, cells[3].split(", ")))
            yield Row(cells[0], cells[1], config, shape, *map(number, cells[4:]))


ROWS = list(index_page())
NAMED = [(row, f"{row.table}-{row.what.replace(' ', '_')}") for row in ROWS]


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmaction")
    yield
    DefaultScope._instance_dict.clear()


@cache
def load(leaf):
    return Config.fromfile(CONFIGS / leaf)


@cache
def build(leaf):
    config = load(leaf)
    init_default_scope(config.default_scope)
    with torch.device("meta"):
        return MODELS.build(config.model).eval()


def static_twin(config):
    model = config.model.copy()
    model.backbone = model.backbone.copy()
    # Ghost modules have no gates: they are what runs.
    model.backbone.type = model.backbone.type.removeprefix("VaRed").removeprefix("CGNet")
    for option in ("dynamic", "cgnet"):
        model.backbone.pop(option, None)
    return model


def input_shape(config):
    """(frames, side) of a clip, as the test pipeline makes it."""
    clip = next(step for step in config.test_pipeline if step.type == "SampleFrames")
    crop = next(step for step in config.test_pipeline if step.type.endswith("Crop"))
    is_2d = config.model.type in ("Recognizer2D", "ARNet")
    frames = clip.num_clips if is_2d else clip.clip_len
    return frames, crop.crop_size


COUNTED = {}


def count(leaf):
    """Dense MACs of all, and (channels, frames) and MACs of every convolution by name."""
    config = load(leaf)
    if config.model.type == "ARNet":
        return frames_alike(leaf, 0), {}
    model, (frames, side) = static_twin(config), input_shape(config)
    key = (str(model), frames, side)
    if key not in COUNTED:
        sizes = (frames, 3) if model.type == "Recognizer2D" else (1, 3, frames)
        convs = {}

        def note(name):
            def hook(conv, args, out):
                macs = out.numel() * conv.weight[0].numel()
                convs[name] = (out.shape[1], out.shape[2] if out.ndim == 5 else 1, macs)

            return hook

        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            static = MODELS.build(model).eval()
            for name, module in static.named_modules():
                if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
                    module.register_forward_hook(note(name))
            static(torch.empty(1, *sizes, side, side), mode="tensor", stage="head")
        COUNTED[key] = counter.get_total_flops() / 2, convs
    return COUNTED[key]


def frames_alike(leaf, size):
    """MACs of an AR-Net that sees all frames at one size."""
    model, (frames, _) = build(leaf), input_shape(load(leaf))
    side = model.sizes[-1]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        small = model.policy_backbone(torch.empty(frames, 3, side, side)).mean((2, 3))
        model.policy(small[None])
    return counter.get_total_flops() / 2 + frames * model.frame_macs[size]


def least(leaf):
    """MACs by formula when every gate opens its cheapest path alone."""
    if load(leaf).model.type == "ARNet":
        return frames_alike(leaf, -4)
    dense, convs = count(leaf)
    for name, conv in channel_gated(build(leaf)).items():
        dense -= convs[name][2] * (1 - conv.base / conv.in_channels)
    for name, conv in dynamic_convs(build(leaf)).items():
        channels, frames, macs = convs[name]
        share = conv.widths[-1] / channels * math.ceil(frames / conv.strides[-1]) / frames
        dense -= macs * (1 - share)
    return dense


def at_threshold(leaf):
    """MACs of CGNet by formula where BatchNorm has made its maps normal: Q(T) of them are open."""
    macs, convs = count(leaf)
    for name, conv in channel_gated(build(leaf)).items():
        closed = NormalDist().cdf(conv.cgnet.threshold)
        macs -= convs[name][2] * (1 - conv.base / conv.in_channels) * closed
    return macs


@pytest.mark.parametrize("leaf", LEAVES)
def test_it_loads_and_its_model_builds_dynamic_as_its_name_says(leaf):
    config, model = load(leaf), build(leaf)
    dynamic = ("vared", "taught")
    for form, found in ((dynamic, dynamic_convs), ("cgnet", channel_gated), ("ghost", ghosts)):
        assert bool(found(model)) == Path(leaf).name.startswith(form)
    assert Config.fromstring(config.pretty_text, ".py").model == config.model


def test_the_index_page_names_every_config():
    assert {row.config for row in ROWS} == set(TRAINED)
    assert {row.table for row in ROWS} == {"1", "2", "3", "4", "5", "6", "7", "9", "10", "13"}


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for row, name in NAMED])
def test_the_cost_is_that_of_the_index_page_and_of_the_paper(row):
    assert input_shape(load(row.config)) == row.shape
    dense = count(row.config)[0] / 1e9
    assert f"{dense:.2f}" == f"{row.dense:.2f}"
    # X3D on Kinetics-400 is printed with its BatchNorm counted, 6.20 elsewhere.
    printed = 6.20 if row.paper == 6.42 else row.paper
    if printed is not None:
        assert dense == pytest.approx(printed, rel=0.03 if row.table == "3" else 0.01)


@pytest.mark.parametrize("row", [pytest.param(r, id=i) for r, i in NAMED if r.least])
def test_the_gates_can_choose_what_the_paper_spends_on_average(row):
    cheapest = least(row.config) / 1e9
    assert f"{cheapest:.2f}" == f"{row.least:.2f}"
    if row.average is not None:
        assert cheapest <= row.average <= row.dense * 1.01


NARROW = [row for row in ROWS if "fewer channels" in row.what]


@pytest.mark.parametrize(("row", "dynamic"), [
    pytest.param(*pair, id=pair[0].config)
    for pair in zip(NARROW, (26.5, 5.03, 20.0, 40.4, 79.3), strict=True)
])  # fmt: skip
def test_a_narrow_network_costs_what_the_paper_s_dynamic_one_does_and_no_more(row, dynamic):
    assert 0.97 * dynamic < row.dense <= dynamic


CGNET = [row for row in ROWS if row.what.startswith("CGNet")]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.what) for row in CGNET])
def test_cgnet_costs_by_formula_what_the_paper_has_at_its_configs_threshold(row):
    gmacs = at_threshold(row.config) / 1e9
    assert gmacs == pytest.approx(row.average, rel=1e-3)
    # As the index page tells it.
    assert f"{gmacs:.2f}" in (CONFIGS / "README.md").read_text()


def test_the_small_rival_costs_what_the_dynamic_network_learns_to():
    closed, spared = NormalDist().cdf(0.25), []

    def note(conv, args, out):
        macs = out.numel() * conv.weight[0].numel()
        spared.append(macs * (1 - conv.base / conv.in_channels) * closed)

    model = build("small/cgnet_i3d_w12.py")
    handles = [c.register_forward_hook(note) for c in channel_gated(model).values()]
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 1, 3, 8, 48, 48), mode="tensor", stage="head")
    for handle in handles:
        handle.remove()
    assert len(spared) == 4
    # docs/results.md: 0.0302 of 0.0487.
    gmacs = (counter.get_total_flops() / 2 - sum(spared)) / 1e9
    assert gmacs == pytest.approx(0.0302, rel=0.02)


def test_the_2d_resnet_50_has_23_917_832_parameters():
    leaf = next(row.config for row in ROWS if row.what.startswith("ResNet-50"))
    assert sum(p.numel() for p in build(leaf).parameters()) == 23_917_832


@pytest.mark.parametrize("leaf", TRAINED)
def test_the_name_tells_clip_epochs_and_data(leaf):
    found = re.search(r"_8xb(\d+)-(\d+)x(\d+)x(\d+)-(\d+)e_([a-z0-9-]+)-rgb", leaf)
    if found is None:
        assert leaf in ("recognition/i3d_k400.py", "recognition/vared_i3d_k400.py")
        return
    batch, length, interval, clips, epochs = map(int, found.groups()[:5])
    config = load(leaf)
    assert config.train_dataloader.batch_size == batch
    assert config.train_cfg.max_epochs == config.param_scheduler[-1].end == epochs
    for pipeline in (config.train_pipeline, config.val_pipeline):
        (sample,) = (step for step in pipeline if step.type == "SampleFrames")
        assert (sample.clip_len, sample.frame_interval, sample.num_clips) == (
            length, interval, clips,
        )  # fmt: skip
    classes = {"mini-kinetics200": 200, "kinetics400": 400, "mit": 339}[found[6]]
    assert config.model.cls_head.num_classes == classes
    data = found[6].replace("mit", "mit/mit")
    for part in ("train", "val"):
        assert (
            f"{data}_{part}_list" in getattr(config, f"{part}_dataloader").dataset.dataset.ann_file
        )


@pytest.mark.parametrize("leaf", [leaf for leaf in TRAINED if not re.search("tsn|arnet", leaf)])
def test_a_video_is_tested_on_k_clips_of_three_crops(leaf):
    config = load(leaf)
    pipeline = config.test_dataloader.dataset.pipeline
    assert pipeline == config.test_pipeline
    assert pipeline[1].num_clips == (3 if "mit" in leaf else 10)
    assert pipeline[4].type == "ThreeCrop"
    assert config.test_evaluator[0].type == "ViewAccuracy"


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf.startswith(("demo", "small"))])
def test_mmaction2_s_inference_finds_the_pipeline_of_the_test_set(leaf):
    config = load(leaf)
    dataset = config.test_dataloader.dataset
    assert config.test_pipeline == dataset.get("pipeline")


def test_the_efficiency_loss_is_where_the_tables_have_it():
    for leaf in TRAINED:
        hooks = {hook.type for hook in load(leaf).custom_hooks}
        wanted = Path(leaf).name.startswith("vared") and "no-efficiency" not in leaf
        assert ("EfficiencyLossHook" in hooks) == wanted, leaf
        assert "CostHook" in hooks


@pytest.mark.parametrize(("variable", "leaf"), [
    ("VARED_CLIPS", "small/i3d.py"), ("ASL24", "localization/asl24/yowo-i3d_w25_asl24.py"),
    ("CAMVID", "segmentation/fcn/fcn_r18-d8_1xb8-10k_camvid-240x180.py"),
])  # fmt: skip
def test_folders_that_the_environment_names_may_have_any_name(variable, leaf, monkeypatch):
    monkeypatch.setenv(variable, "/any/Anna's \\1")
    dataset = Config.fromfile(CONFIGS / leaf).test_dataloader.dataset
    told = [dataset.get("data_root"), dataset.get("ann_file"), dataset.data_prefix.get("video")]
    assert any(str(one).startswith("/any/Anna's \\1") for one in told)
