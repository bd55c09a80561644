"""Memory for maps, kept from one call to the next.

By itself glibc gives what is free at the end of the heap back to the system, and every map of
32 MiB and more, which then hands out other memory in the next call and clears it first: up to a
fifth of a pass.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

# As in malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
# Bytes that may stay free.
KEPT = 1 << 30


@cache
def keep_memory() -> None:
    """For the process but the threads that it has already, unless its environment says otherwise or
    it has another C library.
    """
    told = " ".join([*os.environ, os.environ.get("GLIBC_TUNABLES", "")])
    if "MALLOC_" in told or "glibc.malloc." in told:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_TRIM_THRESHOLD, KEPT)
    mallopt(M_MMAP_MAX, 0)
    # Threads to come would have memory of their own, of which no large map is kept.
    mallopt(M_ARENA_MAX, 1)
