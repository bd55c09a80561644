"""Records with the numbers that a table is to tell, and what it tells."""

import json
from dataclasses import replace
from pathlib import Path

from vared_mm.report.leaderboard_inputs import Inputs
from vared_mm.report.result import Data, Result

STATIC = "r2plus1d_r18_8xb12-16x4x1-120e_mini-kinetics200-rgb"
DATA = Data("VideoDataset", "val.txt", 100, None, "abcdef0123")
CHOICES = dict(
    share_std=0.07, share_quartiles=[0.3, 0.4, 0.5], policies=13, first_four=0.9, spearman=0.1,
    policy={"a": [0.5, 0.0]}, policy_share=0.3, judged=None, verdict=None,
)  # fmt: skip
SPEED = {"dynamic": {"median": 10.0, "low": 9.0, "high": 11.0}}
HOW = {"device": "a CPU", "threads": 2, "batch": 8, "engine": "prepared", "precision": "fp32"}


def result(name, clip1=0.5, gmacs=40.0, dynamic=True, speed=None, data=DATA, **settings):
    spread = {"avg": gmacs, "min": gmacs - 4, "max": gmacs + 4}
    share = {"avg": 0.7, "min": 0.6, "max": 0.8}
    layers = [{"name": "a", "dense_gmacs": 1.0, "share": share}] * dynamic
    of_all = Result(
        name=name, config=f"configs/{name}.py", options={}, checkpoint="last.pth", commit=None,
        created="2026-01-02T03:04:05+00:00", task="recognition", device="cpu", threads=2,
        packages={}, parameters=23_900_000, data=data, speed=speed,
        metrics={"acc/clip1": clip1, "cost/share": 1.0},
        cost={"dense_gmacs": 55.2, "paper_gmacs": spread, "full_gmacs": spread, "share": share,
              "layers": layers},
    )  # fmt: skip
    return replace(of_all, **settings)


def inputs(*results):
    return Inputs({Path(f"{i}/result.json"): r for i, r in enumerate(results)}, {})


def texts(board, row):
    (found,) = board.texts[board.texts.iloc[:, 0] == row].to_dict("records")
    return found


def column(board, name):
    return board.texts[name].tolist()


def counts(board):
    return board.texts["results"][board.numbers["results"] > 0].tolist()


def study_file(folder, config, cc, checkpoint=None):
    mean = {axis: dict(cc=cc, rmse=0.1, rp=None) for axis in ("time", "channel")}
    folder.mkdir(parents=True)
    content = dict(
        config=f"x/{config}.py", checkpoint=checkpoint, samples=5, layers=[], mean=mean,
        thresholds=dict(cc=0.85, rmse=0.1),
    )  # fmt: skip
    (folder / "redundancy.json").write_text(json.dumps(content))
