"""The runs behind docs/results.md: which commands they are, what is kept, and what is told."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from command_lines import tool_of
from results_by_hand import result

from vared_mm.report.result import write_result

ROOT = Path(__file__).parents[1]
study = tool_of("study")


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("train.txt", "val.txt", "classes.txt"):
        (folder / name).write_text("a\nb\nc\n")
    return folder


RESULT = result(0.5, 0.5, 0.5)


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The commands of a study, of which only the files are made that they would leave."""
    seen = []

    def run_tool(tool, *options, env=None):
        seen.append((tool, options, env))
        value = dict(pairwise(options))
        if tool == "tools/train.py":
            folder = Path(value["--work-dir"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "last_checkpoint").write_text(str(folder / "last.pth"))
        if tool == "tools/test.py":
            write_result(Path(value["--json"]).parent, RESULT)
        if tool == "tools/evaluate.py":
            write_result(Path(value["--out"], "vared_i3d", "last-1234"), RESULT)

    (tmp_path / "data" / "motion_clips").mkdir(parents=True)
    (tmp_path / "data" / "motion_clips" / "classes.txt").write_text("up\ndown\n")
    small = tmp_path / "configs" / "small"
    small.mkdir(parents=True)
    for config in (ROOT / "configs" / "small").glob("*.py"):
        (small / config.name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "run_tool", run_tool)
    return seen


def start(monkeypatch, clips, *options):
    monkeypatch.setattr("sys.argv", ["study.py", str(clips), *options])
    study.main()


def test_both_forms_go_on_from_the_seed_s_static_network_which_began_with_motion_clips(
    calls, clips, monkeypatch
):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7", "--forms", "static", "time",
          "--steps", "800", "--dynamic-options", "custom_hooks.0.weight=3.0")  # fmt: skip
    runs = [(tool, options[0], options[-1], env) for tool, options, env in calls[1:]]
    # Its training and its test: an option may change the model.
    weighed = [call for call in calls if "custom_hooks.0.weight=3.0" in call[1]]
    assert [(tool, options[0]) for tool, options, _ in weighed] == [
        ("tools/train.py", "configs/small/vared_i3d.py"),
        ("tools/test.py", "configs/small/vared_i3d.py"),
    ]
    motion = {"VARED_CLIPS": "data/motion_clips", "VARED_CLASSES": "2"}
    own = {"VARED_CLIPS": str(clips), "VARED_CLASSES": "3"}
    steps = {"VARED_STEPS": "400"}
    static, dynamic = "configs/small/i3d.py", "configs/small/vared_i3d.py"
    out = "work_dirs/study/clips"
    begun = f"load_from={out}/i3d-start-7/last.pth"
    assert runs == [
        ("tools/train.py", static, "--resume", motion | steps),
        ("tools/train.py", static, "load_from=work_dirs/study/i3d/last.pth", own | steps),
        ("tools/train.py", static, begun, own | {"VARED_STEPS": "800"}),
        ("tools/test.py", static, f"{out}/i3d-static-7/result.json", own),
        ("tools/train.py", dynamic, begun, own | {"VARED_STEPS": "800"}),
        ("tools/test.py", dynamic, "custom_hooks.0.weight=3.0", own),
    ]


def test_what_asks_no_input_takes_over_from_the_dynamic_run_and_starts_as_all_do(
    calls, clips, monkeypatch
):
    forms = ("--forms", "dynamic", "one-policy", "random")
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7", *forms)
    out, config = "work_dirs/study/clips", "configs/small/vared_i3d.py"
    of_static = f"{out}/i3d-start-7/last.pth"
    judged = f"{out}/i3d-dynamic-7-choices"
    runs = [(tool, *options) for tool, options, _ in calls]
    (evaluated,) = [run for run in runs if run[0] == "tools/evaluate.py"]
    assert evaluated[1:] == (
        config, f"{out}/i3d-dynamic-7/last.pth", "--no-speed", "--out", judged
    )  # fmt: skip
    freeze = ("tools/freeze.py", f"{judged}/vared_i3d/last-1234")
    assert [run for run in runs if run[0] == "tools/freeze.py"] == [
        (*freeze, f"{out}/i3d-one-policy-7-start.pth", "--start", of_static),
        (*freeze, f"{out}/i3d-random-7-start.pth", "--start", of_static, "--random"),
    ]
    (trained,) = [run for run in runs if f"{out}/i3d-one-policy-7" in run and "--resume" in run]
    assert trained[-2:] == (
        "model.backbone.dynamic.gate=fixed", f"load_from={out}/i3d-one-policy-7-start.pth"
    )  # fmt: skip
    table = study.report(Path(out))
    assert all(form in table for form in ("dynamic", "one-policy", "random"))


def test_the_narrow_form_learns_all_from_the_motion_clips_on(calls, clips, monkeypatch):
    monkeypatch.setattr(study, "narrower", lambda *told: [f"width={told[2]}", "in_channels=7"])
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7", "--forms", "dynamic", "narrow")
    trainings = [options for tool, options, _ in calls if tool == "tools/train.py"][3:]
    wide, out = ("width=0.5", "in_channels=7"), "work_dirs/study/clips"
    folders = ["work_dirs/study/i3d-0.5", f"{out}/i3d-0.5-start-7", f"{out}/i3d-narrow-7"]
    assert [options[2] for options in trainings] == folders
    assert all(options[0] == "configs/small/i3d.py" for options in trainings)
    told = [options[options.index("--cfg-options") + 1 :] for options in trainings]
    assert told == [
        wide,
        (*wide, "load_from=work_dirs/study/i3d-0.5/last.pth"),
        (*wide, f"load_from={out}/i3d-0.5-start-7/last.pth"),
    ]
    assert calls[-1][1][-2:] == wide


def test_options_of_the_start_are_its_alone(calls, clips, monkeypatch):
    option = "optim_wrapper.optimizer.lr=0.004"
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7", "--start-options", option)
    trainings = [options for tool, options, _ in calls if tool == "tools/train.py"]
    assert [(Path(options[2]).name, option in options) for options in trainings] == [
        ("i3d", False), ("i3d-start-7", True), ("i3d-static-7", False), ("i3d-dynamic-7", False),
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="holds runs with"):
        start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7")


def test_the_pruned_form_takes_the_macs_of_the_dynamic_one_by_formula(calls, clips, monkeypatch):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7", "--forms", "dynamic", "pruned",
          "--dynamic-options", "custom_hooks.0.weight=3.0")  # fmt: skip
    # The dynamic one took 0.5 of 0.8 GMACs.
    last = [(tool, options[0], options[-2:]) for tool, options, _ in calls[-2:]]
    begun = "load_from=work_dirs/study/clips/i3d-start-7/last.pth"
    assert last == [
        ("tools/train.py", "configs/small/pruned_i3d.py", ("custom_hooks.0.share=0.6250", begun)),
        ("tools/test.py", "configs/small/pruned_i3d.py",
         ("--cfg-options", "custom_hooks.0.share=0.6250")),
    ]  # fmt: skip


def test_the_channel_pruned_form_goes_on_from_what_is_left_of_the_start(calls, clips, monkeypatch):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "7", "--forms", "dynamic",
          "channel-pruned")  # fmt: skip
    out = "work_dirs/study/clips"
    left = f"{out}/i3d-channel-pruned-7-start"
    (tool, pruning, _), (_, training, _), (_, testing, _) = calls[-3:]
    # The dynamic one took 0.5 of 0.8 GMACs.
    assert (tool, *pruning) == (
        "tools/prune_channels.py", "configs/small/i3d.py", f"{out}/i3d-start-7/last.pth", left,
        "--share", "0.6250", "--shape", "16", "36", "48", "--round-to", "2",
    )  # fmt: skip
    assert (training[0], training[-1]) == (f"{left}/pruned.py", f"load_from={left}/pruned.pth")
    assert testing[0] == f"{left}/pruned.py"


@pytest.mark.parametrize("form", ["one-policy", "random", "narrow", "pruned", "channel-pruned"])
def test_what_takes_over_needs_the_dynamic_run_before_it(form, calls, clips, monkeypatch):
    options = ("--networks", "i3d", "--seeds", "7", "--forms", "static", form)
    for forms in ([], ["dynamic"]):
        with pytest.raises(SystemExit, match="i3d-dynamic-7 learned to do, which is not finished"):
            start(monkeypatch, clips, *options, *forms)
    assert not calls


def test_all_finished_forms_of_a_seed_are_timed_beside_each_other(calls, clips, monkeypatch):
    out = Path("work_dirs/study/clips")
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "1", "--forms", "dynamic", "static")
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "1", "--speed")
    timed = [(options, env) for tool, options, env in calls if tool == "tools/compare_speed.py"]
    folders = [str(out / f"i3d-{form}-1") for form in ("static", "dynamic")]
    own = {"VARED_CLIPS": str(clips), "VARED_CLASSES": "3"}
    assert timed == [((*folders, "--json", str(out / "i3d-speed-1.json")), own)]


def test_finished_runs_are_kept(calls, clips, monkeypatch):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0", "--forms", "static")
    del calls[:]
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0", "1", "--forms", "static")
    # The generator looks whether its clips are there; seed 1 starts from the same motion network.
    assert [options[0] for _, options, _ in calls[1:]] == ["configs/small/i3d.py"] * 3


def test_a_record_that_is_damaged_or_of_a_former_version_is_made_again(calls, clips, monkeypatch):
    options = ("--networks", "i3d", "--seeds", "0", "--forms", "static")
    start(monkeypatch, clips, *options)
    Path("work_dirs/study/clips/i3d-static-0/result.json").write_text('{"metrics": {}}')
    del calls[:]
    start(monkeypatch, clips, *options)
    assert [tool for tool, *_ in calls] == ["tools/make_motion_clips.py", "tools/test.py"]


def test_runs_of_other_steps_are_not_taken_for_these(calls, clips, monkeypatch):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0")
    with pytest.raises(SystemExit, match=r"holds runs with .*'steps': 400.*give another --out"):
        start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0", "--steps", "800")


@pytest.mark.parametrize(("options", "told"), [
    (("--steps", "0"), "--steps: wanted a whole number from 1 on; came '0'"),
    (("--start-steps", "-5"), "--start-steps: wanted a whole number from 1 on; came '-5'"),
    (("--seeds", "0", "-1"), r"--seeds is \[0, -1\]; wanted whole numbers from 0 on"),
])  # fmt: skip
def test_what_no_training_has_is_refused_before_the_first_one(
    calls, clips, monkeypatch, capsys, options, told
):
    with pytest.raises(SystemExit):
        start(monkeypatch, clips, *options)
    assert re.search(told, capsys.readouterr().err)
    assert not calls
    assert not Path("work_dirs").exists()


def test_runs_on_other_clips_of_the_same_name_are_not_taken_for_these(calls, clips, monkeypatch):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0")
    (clips / "val.txt").write_text("other.mp4 1\n")
    with pytest.raises(SystemExit, match=r"holds runs with .*'clips': .*give another --out"):
        start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0")


def test_a_set_is_known_by_its_clips_too(calls, clips, monkeypatch):
    (clips / "val.txt").write_text("a clip.mp4 1\nb.mp4 0\n")
    for name, size in (("a clip.mp4", 7), ("b.mp4", 7)):
        (clips / name).write_bytes(bytes(size))
    options = ("--networks", "i3d", "--seeds", "0", "--forms", "static")
    start(monkeypatch, clips, *options)
    (clips / "a clip.mp4").write_bytes(bytes(8))
    file = Path("work_dirs/study/clips/settings.json")
    told = rf'holds runs with .*give another --out. .*take "clips" out of {file}'
    with pytest.raises(SystemExit, match=told):
        start(monkeypatch, clips, *options)
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({name: kept[name] for name in kept if name != "clips"}))
    start(monkeypatch, clips, *options)
    assert json.loads(file.read_text())["clips"] == study.Clips(clips).digest != kept["clips"]


@pytest.mark.parametrize("name", ["notes", "i3d-static-best", "my-net-0"])
def test_other_folders_are_no_runs(calls, clips, monkeypatch, name):
    start(monkeypatch, clips, "--networks", "i3d", "--seeds", "0", "--forms", "static")
    out = Path("work_dirs/study/clips")
    (out / name).mkdir()
    (out / name / "result.json").write_text("{}")
    assert study.report(out).count("i3d") == 1
    (out / "i3d-static-0" / "result.json").write_text("{")
    with pytest.raises(ValueError, match="i3d-static-0/result.json is damaged"):
        study.report(out)


def test_it_is_called_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="no configs/small here; call the study in the repository"):
        start(monkeypatch, tmp_path)


def test_a_folder_without_lists_is_refused_with_what_makes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        SystemExit, match=r"has no train.txt, val.txt, classes.txt; vared-mm small-clips"
    ):
        start(monkeypatch, tmp_path)


def test_rivals_start_as_all_do_and_have_no_options_of_the_dynamic_forms(calls, clips, monkeypatch):
    start(monkeypatch, clips, "--networks", "i3d_w12", "--seeds", "7", "--forms", "cgnet", "ghost",
          "--dynamic-options", "custom_hooks.0.weight=3.0")  # fmt: skip
    begun = "load_from=work_dirs/study/clips/i3d_w12-start-7/last.pth"
    trained = [options for tool, options, _ in calls if tool == "tools/train.py"][2:]
    assert [(options[0], options[-2:]) for options in trained] == [
        (f"configs/small/{form}_i3d_w12.py", ("--cfg-options", begun))
        for form in ("cgnet", "ghost")
    ]
    assert not any("custom_hooks.0.weight=3.0" in options for _, options, _ in calls)


def test_a_run_like_another_form_is_not_told_as_this_one_s(calls, clips, monkeypatch):
    options = ("--networks", "i3d", "--seeds", "7", "--forms", "dynamic", "taught", "same-macs")
    start(monkeypatch, clips, *options)
    start(monkeypatch, clips, *options)
    calls.clear()
    with pytest.raises(SystemExit, match="i3d-same-macs-7 is a run like dynamic, wanted is taught"):
        start(monkeypatch, clips, *options, "--like", "taught")
    assert not calls


def test_a_form_that_a_network_has_not_is_told_before_the_first_training(calls, clips, monkeypatch):
    with pytest.raises(SystemExit, match="there is no taught form of x3d; leave out"):
        start(monkeypatch, clips, "--networks", "x3d", "--forms", "static", "taught")
    # It has its static form, and no list of widths that are counted out.
    with pytest.raises(SystemExit, match="no channel-pruned form of arnet_r18 and no narrow form"):
        start(monkeypatch, clips, "--networks", "arnet_r18", "--forms", "narrow", "channel-pruned")
    assert not calls
