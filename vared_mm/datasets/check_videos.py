"""Which of many videos can be decoded: in parallel, with progress, going on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from vared_mm.datasets.video_guard import fault_of
from vared_mm.screen import tracked

# How many videos a pool of processes is given at once, for each process. Of these alone it has to
# be found out which one crashed the decoder.
PART = 64
# Of how `fault_of` looks at a video; what a journal holds by another way is asked again.
WAY = 3


def check_videos(
    folder: str | Path, videos: Sequence[str], journal: str | Path, workers: int | None = None
) -> dict[str, str | None]:
    """What is wrong with each video, or None; all of it is decoded.

    Args:
        folder: Where the videos are.
        videos: Their paths in it.
        journal: A file that each answer is added to. What it holds of an unchanged video is not
            asked again, so that an interrupted check goes on.
        workers: Processes; by default one for each processor.
    """
    known = read_journal(journal)
    states = {video: state_of(Path(folder, video)) for video in dict.fromkeys(videos)}
    faults = {
        video: known[video]["fault"]
        for video, state in states.items()
        if video in known and known[video]["state"] == state
    }
    todo = [video for video in states if video not in faults]
    Path(journal).parent.mkdir(parents=True, exist_ok=True)
    with Path(journal).open("a") as log:
        # The line that an interruption cut short ends here.
        log.write("\n")
        answers = decode_all(folder, todo, workers or os.cpu_count() or 1)
        for video, fault in tracked(answers, len(todo), "checking videos"):
            faults[video] = fault
            entry = dict(video=video, state=states[video], fault=fault, way=WAY)
            log.write(json.dumps(entry) + "\n")
            log.flush()
    return faults


def read_journal(journal: str | Path) -> dict[str, dict[str, Any]]:
    """The last whole entry of each video; what an interruption or a full disk left is passed."""
    entries = {}
    if Path(journal).is_file():
        for line in Path(journal).read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and {"video", "state", "fault", "way"} <= set(entry):
                entries[entry["video"]] = entry
    return {video: entry for video, entry in entries.items() if entry["way"] == WAY}


def state_of(file: Path) -> list[int] | None:
    """What changes when a file does: its size and time, None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def decode_all(
    folder: str | Path, videos: Sequence[str], workers: int
) -> Iterator[tuple[str, str | None]]:
    """Each video with its fault, as they finish."""
    step = PART * workers
    for start in range(0, len(videos), step):
        crashed = []
        pool = ProcessPoolExecutor(workers)
        try:
            asked = {
                pool.submit(fault_of, str(Path(folder, video))): video
                for video in videos[start : start + step]
            }
            for answer in as_completed(asked):
                try:
                    yield asked[answer], answer.result()
                except BrokenProcessPool:
                    crashed.append(asked[answer])
        finally:
            # An interruption shall not wait for all that were asked.
            pool.shutdown(cancel_futures=True)
        for video in crashed:
            yield video, fault_alone(str(Path(folder, video)))


def fault_alone(file: str) -> str | None:
    """As `fault_of`, in a process of its own, which a broken file may take down."""
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(fault_of, file).result()
        except BrokenProcessPool:
            return "crashes the decoder"
