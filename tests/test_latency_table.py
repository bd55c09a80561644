"""The table's file, the model it has to fit, and the gates that do not pay."""

import json
import runpy
import sys
from dataclasses import replace

import pytest
from command_lines import tool_of
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from vared_mm.flops import build_model
from vared_mm.latency_table import (
    LayerLatency,
    gates_that_do_not_pay,
    grids_for,
    read_table,
)
from vared_mm.method import DynamicConfig, DynamicError, make_dynamic
from vared_mm.method.observe import dynamic_convs

FIRST = LayerLatency("0", 4.0, 0.1, {(8, 1): 4.1, (8, 2): 3.0, (4, 1): 2.5, (4, 2): 1.5})
SECOND = LayerLatency("2", 1.0, 0.2, {(6, 1): 1.1, (6, 2): 0.9, (3, 1): 0.8, (3, 2): 1.2})


def network(targets="[02]", **settings):
    model = nn.Sequential(nn.Conv3d(2, 8, 1), nn.ReLU(), nn.Conv3d(8, 6, 1))
    make_dynamic(model, DynamicConfig(targets=targets, **settings))
    return model


def file_of(folder, batches):
    path = folder / "speed.json"
    path.write_text(json.dumps({"rows": [], "layers": batches}))
    return path


def test_a_table_comes_back_from_its_file_as_it_was_measured(tmp_path):
    follower = replace(SECOND, gate_ms=0.0, leader="0")
    tables = {1: [FIRST, follower], 8: [FIRST]}
    rows = {batch: [layer.as_json() for layer in table] for batch, table in tables.items()}
    path = file_of(tmp_path, rows)
    assert read_table(path, 1) == [FIRST, follower]
    assert read_table(str(path), 8) == [FIRST]


row = FIRST.as_json()
REFUSED = {
    "another batch size": ({8: [row]}, r"at batch size 8; wanted 1: .* with --batch 1"),
    "no layers": ({}, "was written without --layers; measure with vared-mm benchmark CONFIG"),
    "a static network": ({1: []}, "of a network without dynamic convolutions; measure with"),
    "an older file": ({1: [{"name": "0"}]}, "it is of version None, wanted 1; measure"),
    "a newer file": ({1: [{**row, "version": 2}]}, "it is of version 2, wanted 1"),
    "a row cut short": ({1: [{"version": 1, "choices": []}]}, "latency table: 'name'; measure"),
    "no time": ({1: [{**row, "static_ms": 0}]}, r"0 has times of \[0, 4.1, .* wanted positive"),
    "no number": ({1: [{**row, "gate_ms": "fast"}]}, "cannot be used as latency table"),
    "no row": ({1: ["fast"]}, "cannot be used as latency table"),
}


@pytest.mark.parametrize(("batches", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_no_such_table_says_what_would_do(tmp_path, batches, message):
    with pytest.raises(DynamicError, match=message):
        read_table(file_of(tmp_path, batches), 1)


def test_files_that_are_missing_or_something_else_say_so(tmp_path):
    with pytest.raises(DynamicError, match=r"there is no latency table .*gone.json; measure"):
        read_table(tmp_path / "gone.json", 1)
    for text in ("model = dict()", "[]", "{}"):
        path = tmp_path / "config.py"
        path.write_text(text)
        with pytest.raises(DynamicError, match="is no latency table"):
            read_table(path, 1)


def test_a_model_gets_its_times_by_share_of_channels_and_frames():
    assert grids_for(network(), [SECOND, FIRST]) == {
        "0": ((4.1, 3.0), (2.5, 1.5)), "2": ((1.1, 0.9), (0.8, 1.2)),
    }  # fmt: skip


def test_an_axis_that_is_not_reduced_has_one_choice():
    times = LayerLatency("0", 4.0, 0.1, {(8, 1): 4.1, (4, 1): 2.5})
    grids = grids_for(network("0", axes="channel"), [times])
    assert grids == {"0": ((4.1,), (2.5,))}


def test_layers_left_out_since_the_measurement_may_stand_in_the_table():
    assert list(grids_for(network("0"), [FIRST, SECOND])) == ["0"]


OTHERS = {
    "a layer too few": ({}, [FIRST], "no times of '2', which Sequential makes dynamic"),
    "another model's layers": (
        {}, [FIRST, SECOND, replace(FIRST, name="layer1"), replace(FIRST, name="1")],
        "another model: it tells of 'layer1', '1', and Sequential has no convolution",
    ),
    "another search space": (
        {"search_space": 3}, [FIRST, SECOND],
        r"0 chooses among .*\(2, 4\)\], and .* has \[\(8, 1\), .* another search_space, axes",
    ),
    "other axes": ({"axes": "time"}, [FIRST, SECOND], "another search_space, axes or width"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "table", "message"), OTHERS.values(), ids=OTHERS)
def test_the_table_of_another_model_is_refused(settings, table, message):
    with pytest.raises(DynamicError, match=message):
        grids_for(network(**settings), table)


def test_a_gate_pays_if_its_fastest_choice_and_itself_take_less_than_the_plain_convolution():
    pays = LayerLatency("a", 1.0, 0.1, {(8, 1): 1.2, (4, 1): 0.8})
    even = LayerLatency("b", 1.0, 0.25, {(8, 1): 1.2, (4, 1): 0.75})
    costs = LayerLatency("c", 1.0, 0.3, {(8, 1): 1.2, (4, 1): 0.8})
    assert pays.best_saving_ms == pytest.approx(0.1)
    assert gates_that_do_not_pay([pays, even, costs]) == ["b", "c"]


def test_convolutions_that_share_a_gate_pay_together_by_one_choice():
    leader = LayerLatency("a", 1.0, 0.3, {(8, 1): 1.1, (4, 1): 0.9})
    follower = LayerLatency("b", 1.0, 0.0, {(6, 1): 1.1, (3, 1): 0.7}, leader="a")
    # 2 - 0.3 against 0.9 + 0.7; alone, the first would not pay.
    assert gates_that_do_not_pay([leader, follower]) == []
    # Each would have a choice that saves 0.3, but not the same one.
    other = replace(follower, choice_ms={(6, 1): 0.7, (3, 1): 1.1})
    assert gates_that_do_not_pay([leader, other]) == ["a", "b"]


def said(monkeypatch, capsys, *arguments):
    """What the tool prints."""
    monkeypatch.setattr(sys, "argv", ["gates_that_pay.py", *map(str, arguments)])
    capsys.readouterr()  # what was logged before
    runpy.run_path("tools/gates_that_pay.py", run_name="__main__")
    return capsys.readouterr().out


def test_what_the_tool_prints_leaves_the_gates_out_of_the_model(tmp_path, monkeypatch, capsys):
    def recogniser(**settings):
        return nn.ModuleDict({"backbone": MODELS.build(dict(
            type="VaRedInceptionI3d", width=0.125, **settings
        ))})  # fmt: skip

    def times(name, conv):
        saved = 0.5 if "mixed_5c" in name else 0.1
        choices = {(k, r): 1 - saved * (k < conv.widths[0]) for k in conv.widths for r in (1, 2)}
        return LayerLatency(name, 1.0, 0.2, choices)

    table = [times(*item) for item in dynamic_convs(recogniser()).items()]
    path = file_of(tmp_path, {4: [layer.as_json() for layer in table]})
    text = said(monkeypatch, capsys, path, "--batch", 4)
    assert text.startswith("# 51 of 57 convolutions pay no gate at batch size 4\n")
    model = recogniser(**eval(f"dict({text.split(chr(10), 1)[1]})"))
    left = list(dynamic_convs(model))
    assert len(left) == 6
    assert all("mixed_5c" in name for name in left)
    # The one table serves the training of what is left, too.
    assert list(grids_for(model, table)) == left


def test_the_tool_says_so_where_all_gates_pay_or_none(tmp_path, monkeypatch, capsys):
    slow = replace(FIRST, gate_ms=3.0)
    path = file_of(tmp_path, {1: [FIRST.as_json()], 8: [slow.as_json()]})
    assert said(monkeypatch, capsys, path) == "every gate pays at batch size 1\n"
    assert "no gate pays at batch size 8" in said(monkeypatch, capsys, path, "--batch", 8)
    with pytest.raises(SystemExit, match="error: .* measured at batch size 1, 8; wanted 2"):
        said(monkeypatch, capsys, path, "--batch", 2)


def test_the_tool_measures_a_config_and_writes_one_without_the_gates_that_do_not_pay(
    tmp_path, monkeypatch, capsys
):
    source, out = tmp_path / "mine.py", tmp_path / "less" / "mine.py"
    out.parent.mkdir()
    source.write_text(
        "_base_ = 'vared_mm::demo/vared_i3d_motion.py'\n"
        "model = dict(backbone=dict(dynamic=dict(exclude=['mixed_3c.branch_1.1.conv'])))\n"
    )
    tool, seen = tool_of("gates_that_pay"), []

    def benchmark(config, checkpoint, settings):
        convs = dynamic_convs(build_model(config))
        seen.append((list(convs), settings.shape, settings.batches))
        layers = [
            LayerLatency(name, 1.0, 0.2, {(4, 1): 1.0, (2, 1): 0.5 if "mixed" in name else 0.9})
            for name in convs
        ]
        row = dict(network="dynamic", gates="all", ms=9.0, ms_quartiles=(8.0, 10.0))
        conditions = dict(device="a CPU")
        rows = [row, row | dict(network="static", gates="")]
        return dict(layers={2: [t.as_json() for t in layers]}, rows=rows, conditions=conditions)

    monkeypatch.setattr(tool, "benchmark", benchmark)
    options = [source, "--shape", 8, 32, 32, "--batch", 2, "--out", out]
    monkeypatch.setattr(sys, "argv", ["gates_that_pay.py", *map(str, options)])
    tool.main()
    (before, *size), (after, *_) = seen
    assert size == [(8, 32, 32), (2,)]
    pays = "backbone.mixed_3b.branch_1.1.conv"
    assert (len(before), after) == (3, [pays])
    assert list(dynamic_convs(build_model(Config.fromfile(out)))) == after
    assert "# Without the gates that do not pay at batch size 2, 8 x 32 x 32, on a CPU" in (
        out.read_text()
    )
    told = capsys.readouterr().out
    assert "gates that pay: dynamic all 9.0 ms (8.0 to 10.0); static 9.0 ms (8.0 to 10.0)" in told


def test_a_config_is_not_replaced_by_what_is_written_of_it(tmp_path, monkeypatch, capsys):
    """Nor is one that it is based on: either would be its own base."""
    base, source = tmp_path / "base.py", tmp_path / "mine.py"
    base.write_text("_base_ = 'vared_mm::demo/vared_i3d_motion.py'\n")
    source.write_text("_base_ = 'base.py'\n")
    told = "would be replaced, which is given to be read; name another file to write"
    with pytest.raises(SystemExit):
        said(monkeypatch, capsys, source, "--shape", 8, 32, 32, "--out", source)
    assert f"mine.py {told}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=rf"base\.py {told}"):
        said(monkeypatch, capsys, source, "--shape", 8, 32, 32, "--out", base)


def test_the_tool_wants_a_size_and_a_place_for_a_config_with_one_set_of_gates(
    tmp_path, monkeypatch, capsys
):
    with pytest.raises(SystemExit):
        said(monkeypatch, capsys, "configs/demo/vared_i3d_motion.py")
    assert "a config wants --shape, to measure at, and --out" in capsys.readouterr().err
    size = ("--shape", 8, 32, 32, "--out", tmp_path / "less.py")
    with pytest.raises(SystemExit):
        said(monkeypatch, capsys, "speed.json", *size)
    assert "a table was measured already" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="has 0 places with dynamic convolutions"):
        said(monkeypatch, capsys, "configs/demo/i3d_motion.py", *size)
    assert not list(tmp_path.iterdir())
