"""What an evaluation depends on tells it apart from others, and nothing else does."""

import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from torch import nn

from vared_mm.report.evaluation_key import (
    code_digest,
    own_files,
    settings_digest,
    times_of,
    weights_digest,
)


def settings(**changes):
    loader = dict(batch_size=2, num_workers=4)
    return settings_digest(Config(dict(model=dict(type="A"), test_dataloader=loader) | changes))


@pytest.mark.parametrize("change", [
    dict(work_dir="elsewhere"), dict(launcher="pytorch"), dict(log_level="ERROR"),
    dict(test_dataloader=dict(batch_size=2, num_workers=0, persistent_workers=True)),
])  # fmt: skip
def test_how_it_is_run_makes_no_other_evaluation(change):
    assert settings(**change) == settings()


@pytest.mark.parametrize("change", [
    dict(model=dict(type="B")), dict(data_preprocessor=dict(mean=[0])), dict(custom_hooks=[1]),
    dict(test_dataloader=dict(batch_size=3)), dict(env_cfg=dict(cudnn_benchmark=True)),
])  # fmt: skip
def test_any_other_setting_does(change):
    assert settings(**change) != settings()


def test_a_config_with_functions_and_sets_is_the_same_in_every_process(tmp_path):
    (tmp_path / "lazy.py").write_text(
        "from mmengine.config import read_base\nfrom mmengine.dataset import pseudo_collate\n"
        "model = dict(type='A', names={'a', 'b', 'c', 'd', 'e'})\n"
        "test_dataloader = dict(collate_fn=dict(type=pseudo_collate))\n"
    )
    call = "from test_evaluation_key import *; print(settings_digest(Config.fromfile('lazy.py')))"
    told = set()
    for seed in "12":
        path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        command = [sys.executable, "-c", f"import vared_mm; {call}"]
        told.add(subprocess.check_output(command, env=env, cwd=tmp_path, text=True))
    assert len(told) == 1


def test_weights_are_known_by_their_values_wherever_they_lie():
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))
    of = weights_digest(model.state_dict())
    same = model.to(memory_format=torch.channels_last)
    assert weights_digest({**same.state_dict(), "extra": None}) == of
    model[1].running_mean[0] = 1
    assert weights_digest(model.state_dict()) != of


def test_code_of_the_user_counts_also_in_modules_that_others_import(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper_of_own_head.py").write_text("LABEL = 1")
    (tmp_path / "own_head.py").write_text("import helper_of_own_head")
    before = code_digest()
    try:
        __import__("own_head")
        first = code_digest()
        (tmp_path / "helper_of_own_head.py").write_text("LABEL = 2")
        assert len({before, first, code_digest()}) == 3
    finally:
        for name in ("own_head", "helper_of_own_head"):
            sys.modules.pop(name, None)
    assert code_digest() == before
    assert any(file.name == "evaluation_key.py" for file in own_files())


def test_a_file_of_equal_length_in_the_place_of_another_is_told_by_its_time(tmp_path):
    (tmp_path / "a").write_text("1")
    first = times_of([str(tmp_path / "a"), "nowhere"])
    os.utime(tmp_path / "a", (1, 1))
    assert times_of([str(tmp_path / "a"), "nowhere"]) == [10**9, None] != first


def test_a_frame_that_is_written_anew_is_told_by_the_time_of_its_folder(tmp_path):
    (tmp_path / "00001.png").write_text("1")
    os.utime(tmp_path, (1, 1))
    first = times_of([str(tmp_path)])
    os.utime(tmp_path / "00001.png", (2, 2))
    assert times_of([str(tmp_path)]) == [2 * 10**9] != first
