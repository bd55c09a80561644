"""Compiles the sources of all kernels, for the processes that follow. A script runs it."""

from concurrent.futures import ThreadPoolExecutor

from conftest import SOURCES

from vared_mm.kernels import compiler
from vared_mm.kernels.loading import compiled

# The sanitizers make it several times as long.
compiler.SECONDS = 1500
with ThreadPoolExecutor(2) as threads:
    for file in threads.map(compiled, SOURCES):
        print(file.name)
