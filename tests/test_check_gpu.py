"""The check for GPUs, without one: a dry part as a user calls it, and what a GPU would be asked."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from command_lines import tool_of

ROOT = Path(__file__).parents[1]
check = tool_of("check_gpu")


def parts(tmp_path):
    args = Namespace(dry=False, clips=None, minutes=8.8)
    return {part.name: part for part in check.parts_of(args, tmp_path)}


def test_a_dry_part_runs_and_writes_its_rows(tmp_path):
    command = ["bash", "tools/check_gpu.sh", "--dry", "--parts", "kernels", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    rows = json.loads((tmp_path / "kernels.json").read_text())["rows"]
    assert [row["network"] for row in rows] == ["static", "dynamic", "dynamic"]
    assert {row["size"] for row in rows} == {"8 x 32 x 32"}
    assert "| kernels | done | 3 | 1 | 0 | 0 |" in done.stdout


def test_without_a_gpu_only_a_dry_run_is_possible(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["check_gpu.py"])
    with pytest.raises(SystemExit):
        check.parsed()
    assert "no GPU is here; --dry proves on a CPU" in capsys.readouterr().err


def test_all_networks_precisions_and_batches_are_asked_for_in_words_the_benchmark_knows(
    tmp_path, monkeypatch
):
    benchmark = tool_of("benchmark")
    asked = []
    for name in ("kernels", "speed", "step", "compiled"):
        for job in parts(tmp_path)[name].jobs:
            (command,) = job.commands
            monkeypatch.setattr(sys, "argv", list(command))
            args = benchmark.parsed()
            assert (ROOT / args.config).is_file()
            asked += [(name, args.config, args.precision, batch) for batch in args.batch]
            if name == "speed":
                assert args.engine == ["prepared", "captured"]
                assert args.shape in ([16, 128, 128], [16, 256, 256])
    assert len({each for each in asked if each[0] == "speed"}) == 3 * 3 * 3
    assert len({each for each in asked if each[0] == "compiled"}) == 3 * 3
    assert len({each for each in asked if each[0] == "step"}) == 3 * 2


def test_the_limits_leave_the_last_part_more_than_a_minute(tmp_path):
    *others, last = parts(tmp_path).values()
    assert last.name == "clips"
    assert 8.8 * 60 - sum(part.seconds for part in others) > 60


def test_seeds_are_told_by_their_median_and_range():
    shared = {"model": "i3d", "form": "static", "steps": 2, "device": "a card", "clips": 9}
    rows = [{**shared, "seed": i, "top1": top1, "share": 1.0} for i, top1 in enumerate((3, 1, 2))]
    (row,) = check.over_seeds(rows)
    assert (row["top1"], row["top1, range"], row["seeds"]) == (2, (1, 3), [0, 1, 2])
