"""Maps find memory in every call that the system has not to clear first."""

import os
import platform
import subprocess
import sys

import pytest

# How often the system hands out a page of 4 KiB while 40 MB of maps are made for the ninth time.
PAGES = """
import resource, torch
from vared_mm.kernels.memory import keep_memory
keep_memory()

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print([pages() for _ in range(9)][-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told to keep memory")
@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({}, True),
        ({"MALLOC_MMAP_THRESHOLD_": "65536"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}, False),
        ({"GLIBC_TUNABLES": "glibc.cpu.x86_shstk=off"}, True),
    ],
    ids=["by itself", "as the environment says", "as it is tuned", "something else is tuned"],
)
def test_maps_of_40_megabytes_find_their_memory_again(told, kept):
    clean = {k: v for k, v in os.environ.items() if "MALLOC" not in k and k != "GLIBC_TUNABLES"}
    run = [sys.executable, "-c", PAGES]
    pages = int(subprocess.run(run, env=clean | told, capture_output=True, check=True).stdout)
    assert (pages < 100) == kept
