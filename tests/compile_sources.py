"""Compiles the sources of all kernels, for the processes that follow. A script runs it."""

from concurrent.futures import ThreadPoolExecutor

import torch
from conftest import SOURCES

from vared_mm.kernels import compiler
from vared_mm.kernels.loading import compiled
from vared_mm.kernels.rebuild import BACKWARD
from vared_mm.kernels.tiled_conv import SOURCE

# The sanitizers make it several times as long.
compiler.SECONDS = 1500
# Those two are for maps of one type.
halves = [s.of(torch.bfloat16) for s in SOURCES if s not in (BACKWARD, SOURCE)]
with ThreadPoolExecutor(2) as threads:
    for file in threads.map(compiled, [*SOURCES, *halves]):
        print(file.name)
