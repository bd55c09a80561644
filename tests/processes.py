"""Whether a process that was killed is gone."""

import time
from pathlib import Path


def ends_within(pid: str, seconds: float) -> bool:
    """A busy machine takes its time to end what was killed."""
    start = time.monotonic()
    while not has_ended(pid):
        if time.monotonic() - start > seconds:
            return False
        time.sleep(0.05)
    return True


def has_ended(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
