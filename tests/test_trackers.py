"""What `PolicyLogHook` writes arrives in each tracker that is installed, as in mmengine's log."""

import json
import struct
from pathlib import Path

import pytest
import toy
from installed import imported
from mmengine.runner import Runner
from torch import nn

BLOCK = 32768


def from_tensorboard(folder):
    events = imported("tensorboard.backend.event_processing.event_accumulator")
    (file,) = folder.rglob("events.out.*")
    read = events.EventAccumulator(str(file), dict(scalars=0)).Reload()
    return {tag: {e.step: e.value for e in read.Scalars(tag)} for tag in read.Tags()["scalars"]}


def from_wandb(folder):
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("run-*.wandb")
    found = {}
    for data in records(file.read_bytes()):
        history = Record.FromString(data).history
        row = {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in history.item}
        for name, value in row.items():
            found.setdefault(name, {})[row.get("iter")] = value
    return found


def records(content):
    """Of a log as LevelDB writes it, 7 bytes before which tell whose it is: blocks of 32 KiB, parts
    with checksum, length and kind (1 whole, 2 first, 3 middle, 4 last)."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if kind:
            whole += content[at + 7 : at + 7 + length]
            at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""
        if not kind or at % BLOCK > BLOCK - 7:
            at = -(-at // BLOCK) * BLOCK


def from_mlflow(folder):
    mlflow = imported("mlflow")
    client = mlflow.MlflowClient(f"file://{folder}/vis_data")
    (run,) = client.search_runs([client.get_experiment_by_name("Default").experiment_id])
    return {
        name: {one.step: one.value for one in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }


TRACKERS = {
    "tensorboard": (dict(type="TensorboardVisBackend"), from_tensorboard),
    "wandb": (
        dict(
            type="WandbVisBackend",
            init_kwargs=dict(mode="offline", project="vared"),
            define_metric_cfg=[dict(name="*", step_metric="iter")],
        ),
        from_wandb,
    ),
    "mlflow": (dict(type="MLflowVisBackend"), from_mlflow),
}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_holds_what_the_log_does(tmp_path, name, monkeypatch):
    imported(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    backend, read = TRACKERS[name]
    hooks = [dict(type="EfficiencyLossHook"), dict(type="PolicyLogHook", interval=2)]
    settings = toy.runner_settings(
        tmp_path, {}, hooks, epochs=2,
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        visualizer=dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), backend]),
        val_cfg=None, val_dataloader=None, val_evaluator=None, cfg=dict(work_dir=str(tmp_path)),
    )  # fmt: skip
    runner = Runner(**settings)
    for conv in (runner.model.backbone[1], runner.model.backbone[4]):
        nn.init.normal_(conv.gate.weight2, std=2)
    runner.train()
    lines = Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "share/backbone.1" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert 0.25 < rows[0]["share/backbone.1"] < 1
    told = read(Path(runner.log_dir))
    for row in rows:
        for key in {key for key in row if key.startswith(("share/", "open_"))}:
            assert told[key][row["step"]] == pytest.approx(row[key]), key
    assert set(told["loss_efficiency"]) == {1, 2, 3, 4, 5, 6}
