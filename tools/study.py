"""Static against dynamic networks on a set of small clips: every run of docs/results.md.

    python tools/data/small_clips.py labels.csv videos data/my_clips --split fold ...
    python tools/study.py data/my_clips

Each static network of configs/small learns the generated motion clips, 400 steps or X3D 1200, and
then, once for each seed, the set, --start-steps. From there its static form and its dynamic ones
learn on, all for --steps, and so do those of two rivals, cgnet and ghost. The form taught is a
dynamic one with TeachGatesHook. What choices have to beat: one-policy, same-macs and random take
the most frequent policy of the form --like, one that takes as many MACs as it did, or answers drawn
as often as it gave them, for all clips. Static networks of as many MACs: pruned has its smallest
weights at zero, channel-pruned lost the channels of least magnitude, narrow has fewer and learns
all from the motion clips on. The network i3d_w12 is an I3D of an eighth of its width for square
clips; arnet_r18 is an AR-Net, a rival that has its static form alone. Finished runs are kept and an
interrupted one goes on; results.json and results.md tell of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vared_mm.fewer_channels import CLIPS, narrower
from vared_mm.files import new_folder, read_names, write_json, write_text
from vared_mm.launch import extra, last_checkpoint, run_tool, told_in_a_line
from vared_mm.options import Parser, positive

with extra("report"):
    from vared_mm.report.evaluation_samples import size_of
    from vared_mm.report.result import Result, ResultError, read_result
    from vared_mm.report.study_table import gathered

# Network: how many steps it takes to learn the motion clips.
NETWORKS = {"i3d": 400, "i3d_w12": 400, "r2plus1d": 400, "x3d": 1200, "arnet_r18": 400}
USUAL = ["i3d", "r2plus1d", "x3d"]
# Form: the prefix of its config, and what it changes there.
FORMS = {
    "static": ("", []),
    "dynamic": ("vared_", []),
    "taught": ("taught_", []),
    "time": ("vared_", ["model.backbone.dynamic.axes=time"]),
    "channel": ("vared_", ["model.backbone.dynamic.axes=channel"]),
    "one-policy": ("vared_", ["model.backbone.dynamic.gate=fixed"]),
    "same-macs": ("vared_", ["model.backbone.dynamic.gate=fixed"]),
    "random": ("vared_", ["model.backbone.dynamic.gate=random"]),
    "narrow": ("", []),
    "pruned": ("pruned_", []),
    "channel-pruned": ("", []),
    "cgnet": ("cgnet_", []),
    "ghost": ("ghost_", []),
}
# Prefixes of the forms that --dynamic-options are for.
GATED = ("vared_", "taught_")
# Forms that do what the dynamic one of the seed learned to do, without asking the input.
ITS_POLICY: dict[str, list[str]] = {
    "one-policy": [], "same-macs": ["--same-macs"], "random": ["--random"],
}  # fmt: skip
# All forms that take over something of the run --like.
LED = {*ITS_POLICY, "narrow", "pruned", "channel-pruned"}
# Static forms whose channels are counted out to a number of MACs.
SIZED = ("narrow", "channel-pruned")
LISTS = ("train.txt", "val.txt", "classes.txt")


class Clips(NamedTuple):
    """A folder with train.txt, val.txt and classes.txt."""

    folder: Path

    @property
    def digest(self) -> str:
        """Of what is learned and asked: another set may have a folder of the same name, and the
        same lists, as generated clips of another seed have."""
        texts = [(self.folder / name).read_bytes() for name in LISTS]
        lines = [line for text in texts[:2] for line in text.splitlines() if line.strip()]
        names = [os.fsdecode(line.rsplit(maxsplit=1)[0]) for line in lines]
        sizes = [size_of(str(self.folder / name)) for name in names]
        return hashlib.sha256(b"\0".join([*texts, str(sizes).encode()])).hexdigest()[:16]

    def environment(self) -> dict[str, str]:
        count = len(read_names(self.folder / "classes.txt"))
        return {"VARED_CLIPS": str(self.folder), "VARED_CLASSES": str(count)}


class Run(NamedTuple):
    network: str
    form: str
    seed: int
    file: str = ""  # of channel pruning, which writes a config

    @property
    def name(self) -> str:
        return f"{self.network}-{self.form}-{self.seed}"

    def exists(self) -> bool:
        """Whether there is a config, and widths where it takes some."""
        sized = self.network in CLIPS or self.form not in SIZED
        return sized and Path(self.config).is_file()

    @property
    def config(self) -> str:
        return self.file or f"configs/small/{FORMS[self.form][0]}{self.network}.py"


@told_in_a_line()
def main() -> None:
    args = parse()
    clips, out = Clips(args.clips), args.out or Path("work_dirs/study", args.clips.name)
    # Seed by seed, so that an early look already compares the forms.
    pairs = [(network, seed) for seed in args.seeds for network in args.networks]
    runs = [Run(network, form, seed) for network, seed in pairs for form in args.forms]
    none = sorted({f"{run.form} form of {run.network}" for run in runs if not run.exists()})
    if none:
        raise SystemExit(f"there is no {' and no '.join(none)}; leave out the form or the network")
    settings = ("start_steps", "steps", "start_options", "dynamic_options")
    keep_settings(out, {**{name: getattr(args, name) for name in settings}, "clips": clips.digest})
    check_led(runs, args.like, out)
    motion = Clips(Path("data/motion_clips"))
    run_tool("tools/make_motion_clips.py", str(motion.folder))
    for number, run in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {run.name}", flush=True)
        if run.form in LED:
            write_text(out / run.name / "like", f"{args.like}\n")
        if not finished(out / run.name):
            static, like = run._replace(form="static"), run._replace(form=args.like)
            options = options_of(run, like, out, args.dynamic_options)
            width = options if run.form == "narrow" else []
            size = f"-{width[0].partition('=')[2]}" if width else ""
            moving, steps = Path("work_dirs/study", run.network + size), NETWORKS[run.network]
            moved = trained(static._replace(seed=0), motion, moving, None, steps, width)
            begun = out / f"{run.network}{size}-start-{run.seed}"
            of_start = [*width, *args.start_options]
            start = trained(static, clips, begun, moved, args.start_steps, of_start)
            if run.form in ITS_POLICY:
                start = policy_of(like, run, clips, out, start, options)
            if run.form == "channel-pruned":
                run, start = channel_pruned(like, run, clips, out, start)
            last = trained(run, clips, out / run.name, start, args.steps, options)
            test(run, clips, out / run.name, last, options)
        report(out)
    if args.speed:
        for network, seed in pairs:
            time_beside(network, seed, clips, out)
    print(report(out))


def parse() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("clips", type=Path, help="folder with train.txt, val.txt, classes.txt")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=USUAL)
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=["static", "dynamic"])
    parser.add_argument(
        "--like", choices=["dynamic", "taught"], default="dynamic",
        help="form whose choices one-policy, same-macs and random take over, and whose MACs narrow "
        "may take; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--start-steps", type=positive, default=400,
        help="of the static network that all forms start from; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive, default=400, help="of each form's training; default: %(default)s"
    )
    parser.add_argument(
        "--start-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="settings of the training that all forms start from alone",
    )  # fmt: skip
    parser.add_argument(
        "--dynamic-options", nargs="+", default=[], metavar="KEY=VALUE",
        help="settings of the dynamic forms, as custom_hooks.0.weight=3.0",
    )  # fmt: skip
    parser.add_argument(
        "--speed", action="store_true",
        help="then time all forms of a seed beside each other (vared-mm compare-speed): on a "
        "machine without other work",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=new_folder, help="default: work_dirs/study/<name of the folder>"
    )
    args = parser.parse_args()
    if min(args.seeds) < 0:
        parser.error(f"--seeds is {args.seeds}; wanted whole numbers from 0 on")
    if not Path("configs/small").is_dir():
        raise SystemExit(
            "there is no configs/small here; call the study in the repository's folder"
        )
    missing = [name for name in LISTS if not (args.clips / name).is_file()]
    if missing:
        raise SystemExit(
            f"{args.clips} has no {', '.join(missing)}; vared-mm small-clips makes such a "
            "folder from a csv of labels, vared-mm make-motion-clips one of generated clips"
        )
    return args


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Refuses a folder whose finished runs had others: they would be told as these."""
    file = out / "settings.json"
    try:
        # Folders of former studies do not tell of all.
        former = json.loads(file.read_text()) if file.exists() else settings
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); remove it and start again") from error
    kept = {"clips": settings["clips"], "start_options": [], **former}
    if kept != settings:
        told = f"{out} holds runs with {kept}, wanted are {settings}; give another --out"
        if {**kept, "clips": settings["clips"]} == settings:
            told += (
                f". Former versions knew clips by their lists alone: if {out} is of one, and the "
                f'clips are the same, take "clips" out of {file}'
            )
        raise SystemExit(told)
    write_json(file, settings)


def check_like(folder: Path, like: str) -> None:
    """Refuses a run that was begun after another form: it would be told as this one's."""
    file = folder / "like"
    former = file.read_text().strip() if file.exists() else like
    if former != like:
        raise SystemExit(f"{folder} is a run like {former}, wanted is {like}; give another --out")


def finished(folder: Path) -> bool:
    try:
        return bool(read_result(folder))
    except ResultError:
        return False


def trained(
    run: Run,
    clips: Clips,
    folder: Path,
    start: Path | None,
    steps: int,
    options: Sequence[str] = (),
) -> Path:
    """The last checkpoint of a training, which is run or gone on with if it is not finished."""
    done = folder / "seconds"
    if not done.exists():
        begin = time.time()
        run_tool(
            "tools/train.py", run.config, "--work-dir", str(folder), "--seed", str(run.seed),
            "--resume", *changed(run, *options, *([f"load_from={start}"] if start else [])),
            env={**clips.environment(), "VARED_STEPS": str(steps)},
        )  # fmt: skip
        write_text(done, f"{time.time() - begin:.0f}\n")
    return Path(str(last_checkpoint(folder)))


def check_led(runs: Sequence[Run], like: str, out: Path) -> None:
    """Before the work: what others take after is finished, or comes before them, and none of them
    was begun after another form."""
    for number, run in enumerate(runs):
        if run.form in LED:
            check_like(out / run.name, like)
            before = finished(out / run.name) or run._replace(form=like) in runs[:number]
            if not before:
                leading(run._replace(form=like), out)


def leading(like: Run, out: Path) -> Result:
    """Of the run whose choices or MACs others take over."""
    if not finished(out / like.name):
        raise SystemExit(
            f"other forms take after what {like.name} learned to do, which is not finished in "
            f"{out}; name {like.form} among --forms, before them, or another form with --like"
        )
    return read_result(out / like.name)


def options_of(run: Run, like: Run, out: Path, dynamic: list[str]) -> list[str]:
    """What a form's config is changed by, beside `FORMS`; `dynamic` goes to the dynamic ones."""
    if run.form == "narrow":
        return narrower(run.network, run.config, leading(like, out).cost["full_gmacs"]["avg"])
    if run.form == "pruned":
        # Gates and cheap operations may cost more than all of them save.
        return [f"custom_hooks.0.share={min(1.0, share_of(like, out)):.4f}"]
    return dynamic if FORMS[run.form][0] in GATED else []


def share_of(like: Run, out: Path) -> float:
    """What a run takes of the static network's MACs."""
    cost = leading(like, out).cost
    return cost["full_gmacs"]["avg"] / cost["dense_gmacs"]


def channel_pruned(like: Run, run: Run, clips: Clips, out: Path, start: Path) -> tuple[Run, Path]:
    """The run with the config of what is left of the start, and its checkpoint."""
    folder = out / f"{run.name}-start"
    if not (folder / "pruned.py").exists():
        size = map(str, CLIPS[run.network])
        run_tool(
            "tools/prune_channels.py", run.config, str(start), str(folder),
            "--share", f"{share_of(like, out):.4f}", "--shape", *size, "--round-to", "2",
            env=clips.environment(),
        )  # fmt: skip
    return run._replace(file=str(folder / "pruned.py")), folder / "pruned.pth"


def policy_of(
    like: Run, run: Run, clips: Clips, out: Path, start: Path, options: Sequence[str]
) -> Path:
    """The start with the gates that the run `like` leads to."""
    leading(like, out)
    judged = out / f"{like.name}-choices"
    if not list(judged.glob("*/*/result.json")):
        told = ["--no-speed", "--out", str(judged), *changed(like, *options)]
        last = str(last_checkpoint(out / like.name))
        run_tool("tools/evaluate.py", like.config, last, *told, env=clips.environment())
    (result,) = judged.glob("*/*/result.json")
    begun = out / f"{run.name}-start.pth"
    kind = ITS_POLICY[run.form]
    run_tool(
        "tools/freeze.py", str(result.parent), str(begun), "--start", str(start), *kind,
        env=clips.environment(),
    )  # fmt: skip
    return begun


def test(run: Run, clips: Clips, folder: Path, checkpoint: Path, options: Sequence[str]) -> None:
    run_tool(
        "tools/test.py", run.config, str(checkpoint), "--work-dir", str(folder), "--json",
        str(folder / "result.json"), *changed(run, *options), env=clips.environment(),
    )  # fmt: skip


def time_beside(network: str, seed: int, clips: Clips, out: Path) -> None:
    """All finished forms but the one that draws, which nobody would use; the static one first."""
    folders = [out / Run(network, form, seed).name for form in FORMS if form != "random"]
    told = [str(folder) for folder in folders if finished(folder)]
    file = out / f"{network}-speed-{seed}.json"
    run_tool("tools/compare_speed.py", *told, "--json", str(file), env=clips.environment())


def changed(run: Run, *more: str) -> list[str]:
    changes = [*FORMS[run.form][1], *more]
    return ["--cfg-options", *changes] if changes else []


def report(out: Path) -> str:
    return gathered(out, list(NETWORKS), list(FORMS))


if __name__ == "__main__":
    main()
