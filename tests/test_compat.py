"""Each cure mends its fault, touches nothing else, and stays away where the fault is absent."""

from __future__ import annotations

import math
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from installed import imported
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

import vared_mm  # noqa: F401  applies the cures
from vared_mm import compat, shipped
from vared_mm.compat import compiled_operators, config_scope, localizer_drn, numpy2, stand_in
from vared_mm.compat import installed_packages as packages
from vared_mm.compat.safe_checkpoints import _getattr
from vared_mm.launch import told_in_a_line

X3D = "recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py"


def package(folder: Path, *files: str) -> None:
    """Write an empty package with these empty files in it."""
    for file in ("__init__.py", *files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# All cures


def test_a_cure_is_active_exactly_where_its_fault_is_present():
    assert {cure.name: cure.active for cure in compat.status()} == {
        cure.name: cure.present for cure in compat.status()
    }


def test_applying_twice_changes_nothing():
    before = list(sys.meta_path), Config._get_cfg_path
    compat.apply()
    assert (list(sys.meta_path), Config._get_cfg_path) == before


@pytest.mark.parametrize(
    ("cure", "top", "there"),
    [
        (compiled_operators.CURE, "mmcv", "_ext.py"),
        (localizer_drn.CURE, "mmaction", "models/localizers/drn/drn.py"),
    ],
    ids=["mmcv._ext", "drn"],
)
def test_a_module_is_missed_only_where_the_package_lacks_it(
    cure, top, there, tmp_path, monkeypatch
):
    package(tmp_path / "without" / top, "models/localizers/bmn.py")
    package(tmp_path / "with" / top, "models/localizers/bmn.py", there)
    monkeypatch.delitem(sys.modules, top, raising=False)
    with monkeypatch.context() as context:
        context.syspath_prepend(tmp_path / "without")
        assert cure.is_needed()
    monkeypatch.syspath_prepend(tmp_path / "with")
    assert not cure.is_needed()


def test_a_module_that_is_there_wins_over_its_stand_in(tmp_path, monkeypatch):
    package(tmp_path / "haunted", "real.py")
    (tmp_path / "haunted" / "real.py").write_text("answer = 42")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("haunted.real", "haunted.ghost"):
        stand_in.stand_in(name, compiled_operators.CompiledOperators)

    from haunted import ghost, real  # type: ignore[import-not-found]

    assert real.answer == 42
    assert isinstance(ghost, compiled_operators.CompiledOperators)


# The localizer that mmaction2's wheel lacks


def test_building_the_missing_localizer_says_where_to_get_it():
    models = imported("mmaction.registry").MODELS
    __import__("mmaction.models")
    if not localizer_drn.CURE.is_needed():
        pytest.skip("the installed mmaction2 has the localizer")
    with pytest.raises(NotImplementedError, match="DRN is missing .* pip install -e"):
        models.build(dict(type="DRN"))


# Checkpoints


class OneWeight(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        return {"loss": self.layer(x).square().mean()}


def runner(folder: Path, epochs: int, resume: bool) -> Runner:
    return Runner(
        OneWeight(),
        str(folder),
        train_dataloader=dict(
            dataset=[{"x": torch.ones(3) * i} for i in range(4)],
            batch_size=2,
            sampler=dict(type="DefaultSampler", shuffle=False),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)),
        param_scheduler=[
            dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=3),
            dict(type="OneCycleLR", eta_max=0.1, total_steps=10, by_epoch=False),
        ],
        custom_hooks=[dict(type="EMAHook")],
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        default_scope="mmengine",
        experiment_name=f"{folder.name}-{epochs}",
        log_level="ERROR",
        resume=resume,
    )


def test_a_run_resumes_with_its_history_where_loading_is_restricted(tmp_path):
    first = runner(tmp_path, epochs=1, resume=False)
    first.message_hub.update_info("best", np.float32(0.5))
    first.train()
    losses = first.message_hub.get_scalar("train/loss").data[0]
    assert len(losses) == 2

    second = runner(tmp_path, epochs=2, resume=True)
    second.train()

    history = second.message_hub.get_scalar("train/loss")
    assert len(history.data[0]) == 4
    assert history.data[0][:2].tolist() == losses.tolist()
    assert second.message_hub.get_info("best") == 0.5
    assert second.iter == 4


def test_a_checkpoint_from_numpy_1_loads(tmp_path):
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save({"history": np.arange(3.0), "best": np.float64(2)}, new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            # numpy 1 wrote the module without the underscore; all names end in a line break.
            target.writestr(name, content.replace(b"numpy._core.", b"numpy.core."))
    assert b"numpy.core.multiarray" in old.read_bytes()

    loaded = torch.load(old)

    assert loaded["history"].tolist() == [0, 1, 2]
    assert loaded["best"] == 2


class Asks:
    """Pickles to a call of `getattr`."""

    def __init__(self, *asked) -> None:
        self.asked = asked

    def __reduce__(self):
        return getattr, self.asked


def test_a_checkpoint_may_not_ask_for_other_attributes(tmp_path):
    torch.save(Asks(HistoryBuffer, "register_statistics"), tmp_path / "evil.pth")
    with pytest.raises(Exception, match="asks for attribute 'register_statistics'"):
        torch.load(tmp_path / "evil.pth")
    assert _getattr(HistoryBuffer, "mean") is HistoryBuffer.mean


def test_loading_stays_restricted(tmp_path):
    torch.save(Path("anything"), tmp_path / "other.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "other.pth")


# Where packages are installed


def test_mmengine_finds_packages_by_distribution_and_by_module():
    mmaction = imported("mmaction")
    folder = str(Path(mmaction.__file__).parent)
    assert packages.get_installed_path("mmaction2") == folder
    assert packages.get_installed_path("mmaction") == folder
    assert packages.package2module("mmaction2") == "mmaction"
    assert packages.is_installed("mmaction2")
    assert not packages.is_installed("no_such_package")


def test_a_package_on_the_path_without_metadata_is_found(tmp_path, monkeypatch):
    package(tmp_path / "bare_package")
    monkeypatch.syspath_prepend(tmp_path)
    assert packages.is_installed("bare_package")
    assert packages.get_installed_path("bare_package") == str(tmp_path / "bare_package")


def test_a_config_of_a_toolbox_serves_as_base(tmp_path):
    imported("mmaction")
    (tmp_path / "mine.py").write_text(f"_base_ = 'mmaction::{X3D}'")
    assert Config.fromfile(tmp_path / "mine.py").model.backbone.type == "X3D"


# Recomputed blocks


def test_a_value_read_inside_a_recomputed_block_keeps_its_gradient():
    blocks = imported("mmaction.models.backbones.resnet3d")
    block = blocks.Bottleneck3d(8, 2, with_cp=True)
    seen: list[Tensor] = []
    block.conv2.register_forward_hook(lambda module, args, out: seen.append(out))

    block(torch.randn(1, 8, 2, 4, 4, requires_grad=True))
    seen[0].square().mean().backward()

    assert block.conv1.conv.weight.grad.abs().sum() > 0


def test_recomputing_gives_the_gradients_of_the_plain_block():
    blocks = imported("mmaction.models.backbones.resnet3d")
    block = blocks.Bottleneck3d(8, 2).double()
    x = torch.randn(1, 8, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    gradients = []
    for block.with_cp in (False, True):
        gradients.append(torch.autograd.grad(block(x).square().sum(), block.conv1.conv.weight)[0])
    assert torch.allclose(*gradients, rtol=1e-12)


def test_torch_itself_keeps_its_default():
    x = torch.ones(2, requires_grad=True)
    seen: list[Tensor] = []
    with pytest.warns(UserWarning, match="use_reentrant"):
        torch.utils.checkpoint.checkpoint(lambda x: seen.append(x * 2) or x * 2, x)
    assert not seen[0].requires_grad


# numpy 2


def test_ava_evaluation_runs_with_a_class_that_has_no_ground_truth():
    metrics = imported("mmaction.evaluation.functional.ava_evaluation.metrics")
    # 0 of 0 boxes: the recall is not a number, which the module writes as np.NAN.
    precision, recall = metrics.compute_precision_recall(np.array([0.9]), np.array([False]), 0)
    assert (precision, recall) == (None, None)
    assert math.isnan(metrics.compute_average_precision(None, None))
    assert not hasattr(np, "NAN") or np.__version__ < "2"


def test_a_hue_turned_back_by_a_third_makes_red_blue():
    processing = imported("mmaction.datasets.transforms.processing")
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    # 60 of OpenCV's 180 steps; a factor of 1 is 255 steps.
    for factor, colour in ((-60.1 / 255, [0, 0, 255]), (60.1 / 255, [0, 255, 0])):
        turned = processing.ColorJitter.adjust_hue(red, factor)
        assert turned[0, 0].tolist() == colour
        assert numpy2.adjust_hue(red, factor)[0, 0].tolist() == colour


# Pipelines


class Cropped(list):
    """A data set whose samples are 40 pixels high and 64 wide."""

    def __getitem__(self, index: int) -> dict:
        crop = dict(type="mmaction.ThreeCrop", crop_size=48)
        frames = [np.zeros((40, 64, 3), np.uint8)]
        sample = dict(filename="a.mp4", imgs=frames, img_shape=(40, 64), modality="RGB")
        return Compose([dict, Compose([crop])])(sample)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_step_that_asserts_something_of_a_sample_is_told_with_it_in_a_line(workers):
    told = (
        r"^error: the pipeline's ThreeCrop does not take a\.mp4: assert crop_h == img_h or crop_w"
    )
    with pytest.raises(SystemExit, match=told), told_in_a_line():
        next(iter(DataLoader(Cropped([1]), num_workers=workers)))


def test_a_picture_without_a_byte_is_named(tmp_path):
    (picture := tmp_path / "street.jpg").touch()
    read = Compose([dict(type="mmcv.LoadImageFromFile")])
    with pytest.raises(ValueError, match=r"LoadImageFromFile does not take .*street\.jpg: OpenCV"):
        read(dict(img_path=str(picture)))


# Our configs by name


@pytest.fixture
def configs(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "configs"
    (folder / "recognition").mkdir(parents=True)
    (folder / "recognition" / "vared_x3d.py").write_text("model = dict(type='X')")
    monkeypatch.setattr(config_scope, "shipped", lambda kind: folder)
    return folder


def test_our_configs_serve_as_base_by_name(configs, tmp_path):
    (tmp_path / "mine.py").write_text("_base_ = 'vared_mm::recognition/vared_x3d.py'")
    assert Config.fromfile(tmp_path / "mine.py").model.type == "X"
    assert compat.config_path("recognition/vared_x3d.py") == str(
        configs / "recognition" / "vared_x3d.py"
    )


def test_a_config_that_is_not_there_names_those_like_it(configs):
    with pytest.raises(FileNotFoundError, match=r"did you mean recognition/vared_x3d\.py\?"):
        compat.config_path("recognition/vared_x3d_m.py")
    with pytest.raises(FileNotFoundError, match="there are 1 configs"):
        compat.config_path("zzz")


def test_configs_in_the_package_go_before_those_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "vared_mm")
    assert shipped.shipped("configs") == tmp_path / "configs"
    (tmp_path / "vared_mm" / ".mim" / "configs").mkdir(parents=True)
    assert shipped.shipped("configs") == tmp_path / "vared_mm" / ".mim" / "configs"
