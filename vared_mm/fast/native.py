"""The kernels of kernels.cpp: compiled when first wanted, for this machine, and kept.

Nothing but a C++ compiler is needed, and without one nothing is lost but speed: `library()` is
None then, and torch's own operations do the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from ctypes import POINTER, Structure, c_float, c_long, c_void_p
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared")
# GCC prefers half of AVX-512's width, for processors that slowed down in full width.
X86_FLAGS = ("-mprefer-vector-width=512",)
MOST_PATHS = 4
MOST_SIDE = 7


class PathStruct(Structure):
    _fields_ = (("gate", c_long), ("scale", c_long), ("phi", c_void_p))


class LayerStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "computed", "side", "relu")),
        *((name, c_long) for name in ("channel_paths", "time_paths", "gates")),
        ("channel", PathStruct * MOST_PATHS),
        ("time", PathStruct * MOST_PATHS),
        ("scale", c_void_p),
        ("bias", c_void_p),
    )


class GateStruct(Structure):
    _fields_ = (
        *((name, c_long) for name in ("channels", "hidden", "axes", "choices")),
        *((name, c_void_p) for name in ("weight1", "bias1", "weight2", "beta")),
        ("floor", c_float),
    )


class SizeStruct(Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in ("samples", "frames", "computed_frames", "height", "width", "pixel")
    )


class PoolStruct(Structure):
    _fields_ = (
        ("samples", c_long),
        ("channels", c_long),
        *((name, c_long * 3) for name in ("from_", "to", "kernel", "stride", "padding")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None, after one warning that says why."""
    try:
        kernels = ctypes.CDLL(str(compiled()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).warning(
            "the kernels of vared_mm.fast are not used, torch's operations take their place; they "
            "want a C++ compiler with OpenMP (CXX names another one) and a folder to be kept in "
            "(XDG_CACHE_HOME names another one): %s",
            getattr(error, "stderr", None) or error,
        )
        return None
    kernels.rebuild.argtypes = (
        POINTER(LayerStruct), POINTER(SizeStruct), c_void_p, c_void_p, POINTER(c_long), c_void_p,
        c_void_p, c_long,
    )  # fmt: skip
    kernels.rebuild.restype = None
    kernels.decide.argtypes = (POINTER(GateStruct), c_void_p, c_long, c_long, c_void_p, c_long)
    kernels.decide.restype = None
    kernels.max_pool.argtypes = (POINTER(PoolStruct), c_void_p, c_void_p, c_long)
    kernels.max_pool.restype = None
    return kernels


def compiled() -> Path:
    """The shared library's file, made if it is not there yet.

    Raises:
        OSError: There is no compiler, or the folder cannot be written.
        RuntimeError: There is no home folder.
        subprocess.CalledProcessError: The compiler refuses.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler: neither $CXX nor g++ nor clang++ is there")
    # CXX may hold more than a name, as in "ccache g++".
    command = [*shlex.split(compiler), *FLAGS]
    command += X86_FLAGS if platform.machine() == "x86_64" else ()
    made_of = SOURCE.read_text() + " ".join(command) + processor()
    name = f"kernels-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    target = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vared_mm", name)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside it and renamed: another thread, process or machine that shares the folder
        # may be loading or making the same file.
        with TemporaryDirectory(dir=target.parent) as folder:
            half = Path(folder, name)
            command += [str(SOURCE), "-o", str(half)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            half.replace(target)
    return target


def processor() -> str:
    """What `-march=native` stands for: a home folder may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return platform.machine() + (flags[0] if flags else platform.processor())
