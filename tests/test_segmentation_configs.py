"""Segmentation and detection configs: what they cost, what they train on, what is compared."""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.utils.flop_counter import FlopCounterMode

import vared_mm  # noqa: F401
from vared_mm.datasets.scenes import CLASSES
from vared_mm.method.observe import dynamic_convs

CONFIGS = Path(__file__).parent.parent / "configs"
CAMVID = CONFIGS.parent.parent / "shared" / "data" / "camvid"
LEAVES = sorted(
    str(path.relative_to(CONFIGS))
    for task in ("segmentation", "detection")
    for path in (CONFIGS / task).rglob("*.py")
    if "_base_" not in path.parts
)
SEGMENTATION = [leaf for leaf in LEAVES if leaf.startswith("segmentation")]
CLASSES_OF = {"ade20k": 150, "camvid": 11, "scenes": 5}


@cache
def read(leaf):
    return Config.fromfile(CONFIGS / leaf)


def load(leaf):
    """A copy, which a test may change."""
    return deepcopy(read(leaf))


@cache
def build(leaf):
    config = load(leaf)
    init_default_scope(config.default_scope)
    with torch.device("meta"):
        return MODELS.build(config.model)


@pytest.mark.parametrize("leaf", LEAVES)
def test_it_loads_and_its_model_builds_dynamic_as_its_name_says(leaf):
    config, model = load(leaf), build(leaf)
    dynamic = Path(leaf).name.startswith("vared")
    assert bool(dynamic_convs(model)) == dynamic
    assert Config.fromstring(config.pretty_text, ".py").model == config.model
    hooks = {hook.type for hook in config.custom_hooks}
    assert ("EfficiencyLossHook" in hooks) == dynamic
    assert "CostHook" in hooks
    assert "CostMetric" in [metric.type for metric in config.test_evaluator]


@pytest.mark.parametrize("leaf", SEGMENTATION)
def test_the_name_tells_batch_iterations_and_data(leaf):
    found = re.search(r"_1xb(\d+)-(\d+k?)_([a-z0-9]+)", leaf)
    config, iterations = load(leaf), int(found[2].replace("k", "000"))
    assert config.train_dataloader.batch_size == int(found[1])
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == iterations
    assert config.model.decode_head.num_classes == CLASSES_OF[found[3]]
    assert config.model.auxiliary_head.num_classes == CLASSES_OF[found[3]]
    assert config.default_hooks.labels.type == "CheckLabelsHook"
    assert config.optim_wrapper.paramwise_cfg.custom_keys["gate.beta"].decay_mult == 0


def index_page():
    """Of each row of the index page: config, (H, W), and its numbers, None for a dash."""
    row = re.compile(r"\|[^|]+\| \[.*\]\((segmentation/.*)\) \| (\d+) x (\d+) \| (.*) \|$")
    for line in (CONFIGS / "README.md").read_text().splitlines():
        if found := row.match(line):
            cells = [re.match(r"[\d.]+", cell) for cell in found[4].split(" | ")]
            yield (
                found[1],
                (int(found[2]), int(found[3])),
                [float(cell[0]) if cell else None for cell in cells],
            )


ROWS = list(index_page())


@cache
def count(leaf, size):
    """MACs of the static twin, by the judge: all, the encoder's, each of its convolutions'."""
    settings = load(leaf).model
    settings.backbone.type = settings.backbone.type.removeprefix("VaRed")
    settings.backbone.pop("dynamic", None)
    init_default_scope("mmseg")
    convs = {}
    whole, encoder = FlopCounterMode(display=False), FlopCounterMode(display=False)

    def note(name):
        def hook(conv, args, out):
            convs[name] = out.numel() * conv.weight[0].numel()

        return hook

    with torch.device("meta"):
        model = MODELS.build(settings).eval()
        for name, module in model.backbone.named_modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(note(name))
        x = torch.empty(1, 3, *size)
        with whole:
            model(x, mode="tensor")
        with encoder:
            model.backbone(x)
    return whole.get_total_flops() / 2, encoder.get_total_flops() / 2, convs


def test_the_index_page_names_every_config():
    assert sorted(row[0] for row in ROWS) == SEGMENTATION


@pytest.mark.parametrize(("leaf", "size", "numbers"), ROWS, ids=[Path(row[0]).stem for row in ROWS])
def test_the_cost_is_that_of_the_index_page_and_of_the_paper(leaf, size, numbers):
    everything, encoder, convs = count(leaf, size)
    dynamic = dynamic_convs(build(leaf).backbone)
    # Of two widths the least is half of the channels, of three a quarter.
    spaces = 3 if "stages34" in leaf else 2
    least = encoder - sum(convs[name] for name in dynamic) * (1 - 2 ** (1 - spaces))
    numbers = dict(zip(("dense", "least", "all", "paper", "average"), numbers, strict=True))
    assert round(encoder / 1e9, 3) == numbers["dense"]
    assert round(everything / 1e9, 3) == numbers["all"]
    assert round(least / 1e9, 3) == (numbers["least"] if dynamic else numbers["dense"])
    if numbers["paper"]:
        assert encoder / 1e9 == pytest.approx(numbers["paper"], rel=0.01)
    if numbers["average"]:
        # Of the paper's 7.3 to 9.1, too.
        assert numbers["least"] < 7.3 < numbers["average"] < 9.1 < numbers["dense"]
    assert all(conv.axes == ("channel",) for conv in dynamic.values())
    assert all(conv.dynamic.search_space == spaces for conv in dynamic.values())


def test_the_recipe_of_table_11():
    config = load("segmentation/fcn/vared-fcn_r18-d8_1xb8-100k_ade20k.py")
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("SGD", 0.02, 1e-4)
    assert [(s.type, s.power) for s in config.param_scheduler] == [("PolyLR", 0.9)]
    resize = config.train_dataloader.dataset.pipeline[2]
    assert [short for _, short in resize.scales] == [300, 375, 450, 525, 600]
    assert config.model.auxiliary_head.loss_decode.loss_weight == 0.4
    assert config.custom_hooks[0].correct == "pixels"


COMPARED = [
    ("fcn_r18-d8", "10k", "5k"),
    ("fcn_r18w16-d8", "2k", "1k"),
]


@pytest.mark.parametrize(("network", "before", "after"), COMPARED, ids=["full", "narrow"])
def test_the_dynamic_form_and_its_static_twin_train_alike_from_one_checkpoint(
    network, before, after
):
    folder, data = "segmentation/fcn", "camvid-240x180.py"
    first = load(f"{folder}/{network}_1xb8-{before}_{data}")
    twin = load(f"{folder}/{network}_continued_1xb8-{after}_{data}")
    dynamic = load(f"{folder}/vared-{network}_1xb8-{after}_{data}")
    start = f"work_dirs/{network}_1xb8-{before}_camvid-240x180/iter_{first.train_cfg.max_iters}.pth"
    assert twin.load_from == dynamic.load_from == start
    same = ("train_cfg", "optim_wrapper", "param_scheduler", "train_dataloader", "test_dataloader")
    assert all(twin[key] == dynamic[key] for key in same)
    assert twin.model.backbone == dict(dynamic.model.backbone, type="ResNetV1c")
    assert twin.model == first.model


def test_the_scenes_config_names_the_classes_of_the_generator():
    config = load("segmentation/fcn/fcn_r18w16-d8_1xb8-300_scenes-96x96.py")
    assert tuple(config.train_dataloader.dataset.metainfo.classes) == CLASSES


def test_the_camvid_folder_is_what_the_environment_says(monkeypatch):
    leaf = CONFIGS / "segmentation/fcn/fcn_r18w16-d8_1xb8-2k_camvid-240x180.py"
    monkeypatch.delenv("CAMVID", raising=False)
    assert Config.fromfile(leaf).train_dataloader.dataset.data_root == "data/camvid"
    monkeypatch.setenv("CAMVID", "/somewhere/else")
    assert Config.fromfile(leaf).train_dataloader.dataset.data_root == "/somewhere/else"


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not in ../shared/data")
def test_camvid_is_read_with_its_void_ignored(monkeypatch):
    monkeypatch.setenv("CAMVID", str(CAMVID))
    leaf = CONFIGS / "segmentation/fcn/fcn_r18w16-d8_1xb8-2k_camvid-240x180.py"
    config = Config.fromfile(leaf)
    init_default_scope("mmseg")
    sizes = {}
    for part in ("train", "val", "test"):
        dataset = DATASETS.build(config[f"{part}_dataloader"].dataset)
        sizes[part] = len(dataset)
        labels = dataset[0]["data_samples"].gt_sem_seg.data
        assert set(labels.unique().tolist()) <= set(range(12))
        assert (labels == 11).any()
    assert sizes == dict(train=367, val=101, test=233)
    assert config.model.decode_head.ignore_index == config.val_evaluator[0].ignore_index == 11
    picture = Compose(config.test_pipeline[:2])({"img_path": dataset.get_data_info(0)["img_path"]})
    assert picture["img"].shape == (180, 240, 3)
