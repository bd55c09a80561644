"""Models are timed beside each other on the same clips, each as its result says it was tested."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_lines import tool_of
from results_by_hand import result_of, samples_of

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips
from vared_mm.fast.engines import Network
from vared_mm.flops import build_model
from vared_mm.launch import config_of
from vared_mm.report import beside
from vared_mm.report.evaluated_model import evaluated_config
from vared_mm.report.evaluation_key import settings_digest, weights_digest
from vared_mm.report.result import read_result, write_result
from vared_mm.speed import speed_of

CONFIG = """
_base_ = 'vared_mm::demo/{base}.py'
load_from = None
model = dict(backbone=dict(width=0.125), cls_head=dict(in_channels=128))
test_dataloader = dict(
    dataset=dict(dataset=dict(
        ann_file='{folder}/clips/val.txt', data_prefix=dict(video='{folder}/clips'))))
"""
BASES = {"static": "i3d_motion", "dynamic": "vared_i3d_motion"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    clips = MotionClipsConfig(clips_per_class=1, val_clips_per_class=1, frames=16, size=64)
    make_motion_clips(folder / "clips", clips)
    samples = samples_of(["a.mp4", "b.mp4"], [0, 1], [], np.ones(2))
    for name, base in BASES.items():
        file, weights = folder / f"{name}.py", folder / f"{name}.pth"
        file.write_text(CONFIG.format(base=base, folder=folder))
        model = build_model(config_of(str(file)))
        torch.save({"state_dict": model.state_dict()}, weights)
        digest = weights_digest(model.state_dict())
        told = dict(config=str(file), checkpoint=str(weights), weights=digest)
        write_result(folder / name, result_of(samples, **told))
    return folder


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["compare_speed.py", *map(str, options)])
    tool_of("compare_speed").main()


def test_the_table_tells_how_many_times_the_first_one_each_is(folder, monkeypatch, capsys):
    results, file = [folder / name for name in BASES], folder / "speed.json"
    run(monkeypatch, *results, "--batch", 2, "--repeats", 3, "--json", file)
    report = json.loads(file.read_text())
    static, dynamic = report["speeds"].values()
    assert static["times"] == 1
    assert dynamic["times"] == dynamic["median"] / static["median"]
    assert static["low"] <= static["median"] <= static["high"]
    assert static["shape"] == dynamic["shape"] == [2, 1, 3, 16, 48, 48]
    line = next(line for line in capsys.readouterr().out.splitlines() if "dynamic" in line)
    assert line.split("|")[-2].strip() == f"{dynamic['times']:.2f}"


def test_what_is_timed_is_prepared_and_answers_as_the_model(folder, monkeypatch):
    runs = {}

    def keep(timed, clips, repeats):
        runs.update(timed)
        return {name: speed_of([1.0], clips) for name in timed}

    monkeypatch.setattr(beside, "interleaved", keep)
    results = {name: read_result(folder / name) for name in BASES}
    beside.speeds_beside(results, batch=3, repeats=1)
    for name, result in results.items():
        network, (inputs,) = runs[name].func, runs[name].args
        assert inputs.shape == (3, 1, 3, 16, 48, 48)
        model = build_model(config_of(result.config), result.checkpoint).eval()
        with torch.no_grad():
            torch.testing.assert_close(
                network(inputs), Network(model)(inputs), atol=1e-4, rtol=1e-4
            )
    assert torch.equal(runs["static"].args[0], runs["dynamic"].args[0])


def test_results_of_other_weights_or_other_data_are_refused_and_kept(folder, monkeypatch, capsys):
    told = read_result(folder / "static")
    write_result(folder / "other", replace(told, weights="0" * 64))
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, folder / "other")
    assert "static.pth holds other weights than" in str(refused.value)
    with pytest.raises(SystemExit, match=r"result\.json would be replaced, which is given"):
        run(monkeypatch, folder / "static", "--json", folder / "static" / "result.json")
    data = replace(told.data, fingerprint="else")
    write_result(folder / "elsewhere", replace(told, data=data))
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, folder / "static", folder / "elsewhere")
    assert "are results of different data or tasks" in str(refused.value)
    with pytest.raises(SystemExit):
        run(monkeypatch, folder / "static", "--batch", 0)
    assert "--batch: wanted a whole number from 1 on; came '0'" in capsys.readouterr().err


def test_a_config_that_was_edited_after_the_evaluation_is_refused(folder, monkeypatch, tmp_path):
    file, options = tmp_path / "edited.py", {"model.backbone.dynamic.search_space": 3}
    file.write_text((folder / "dynamic.py").read_text())
    settings = settings_digest(config_of(str(file), options))
    told = replace(read_result(folder / "dynamic"), config=str(file), options=options)
    write_result(tmp_path / "edited", replace(told, settings=settings))
    config = evaluated_config(read_result(tmp_path / "edited"), {"data_root": "elsewhere"})
    assert (config.model.backbone.dynamic.search_space, config.data_root) == (3, "elsewhere")
    file.write_text(file.read_text() + "model['data_preprocessor'] = dict(mean=[0, 0, 0])\n")
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, tmp_path / "edited")
    assert f"config {file} says something else than when vared_net was" in str(refused.value)
    assert "change it back, or evaluate it again" in str(refused.value)
    # Of a result without the digest of its config nothing is known.
    assert evaluated_config(told).model.data_preprocessor.mean == [0, 0, 0]
