"""Maps find memory in every call that the system has not to clear first."""

import os
import platform
import subprocess
import sys

import pytest

# How often the system hands out a page while 80 MB of maps are made for the 40th time. The first
# ones at times leave holes some bytes too small, as glibc keeps the pieces that it cuts off apart.
PAGES = """
import resource, sys, threading, torch
from vared_mm.kernels.memory import keep_memory
keep_memory()

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def run():
    print([pages() for _ in range(40)][-1])

if "thread" in sys.argv:
    thread = threading.Thread(target=run)
    thread.start(), thread.join()
else:
    run()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told to keep memory")
@pytest.mark.parametrize(
    ("where", "told", "kept"),
    [
        ("main", {}, True),
        ("thread", {}, True),
        ("main", {"MALLOC_MMAP_THRESHOLD_": "65536"}, False),
        ("thread", {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}, False),
        ("main", {"GLIBC_TUNABLES": "glibc.cpu.x86_shstk=off"}, True),
    ],
    ids=["by itself", "in a thread", "as the environment says", "as it is tuned", "else is tuned"],
)
def test_maps_of_80_megabytes_find_their_memory_again(where, told, kept):
    clean = {k: v for k, v in os.environ.items() if "MALLOC" not in k and k != "GLIBC_TUNABLES"}
    run = [sys.executable, "-c", PAGES, where]
    pages = int(subprocess.run(run, env=clean | told, capture_output=True, check=True).stdout)
    # Of 4 KiB some 20,000, of 2 MiB some 40.
    assert (pages < 10) == kept
