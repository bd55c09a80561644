"""The C++ compiler at hand: which one it is, and what it makes of a source."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared")
# GCC prefers half of AVX-512's width, for processors that slowed down in full width.
X86_FLAGS = ("-mprefer-vector-width=512",)
# The longest source takes some 20; a compiler that waits for something would hold the model up.
SECONDS = 150
# Of what a compiler says: the rest follows from the first lines.
WORDS = 4000
_too_slow: set[str] = set()


def command() -> list[str]:
    """The compiler and its options.

    Raises:
        FileNotFoundError: There is none.
        ValueError: `CXX` has a quotation mark without its fellow.
    """
    named = os.environ.get("CXX", "").strip()
    named = named or shutil.which("g++") or shutil.which("clang++") or ""
    # CXX may hold more than a name, as in "ccache g++", and a name may hold spaces.
    words = [named] if Path(named).is_file() else shlex.split(named)
    if not words:
        raise FileNotFoundError("no C++ compiler: neither $CXX nor g++ nor clang++ is there")
    ours = [*FLAGS, *(X86_FLAGS if platform.machine() == "x86_64" else ())]
    # Options in CXX come behind ours: the last one of a kind holds.
    names = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:names], *ours, *words[names:]]


def identity(words: list[str]) -> str:
    """What another compiler, another processor or another C library would have otherwise.

    A compiler is told by its file: to ask for its version takes longer than all else at a start.
    """
    found = [Path(path).resolve() for path in map(shutil.which, words) if path is not None]
    files = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in found]
    return "\n".join([*words, *files, processor(), c_library()])


def processor() -> str:
    """What `-march=native` stands for: a home folder may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return platform.machine() + (flags[0] if flags else platform.processor())


def c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        # Where it is not GNU's.
        return " ".join(platform.libc_ver())


def compile_source(words: list[str], text: str, target: Path) -> None:
    """Compiles `text` to the shared library `target`.

    Raises:
        OSError: The compiler cannot be started.
        RuntimeError: It refuses, is ended, makes nothing or takes too long; with its words.
    """
    key = " ".join(words)
    if key in _too_slow:
        raise RuntimeError(f"{words[0]} took more than {SECONDS} s before")
    with subprocess.Popen(
        [*words, "-x", "c++", "-", "-o", str(target)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        # With the programs that it starts it forms a group, which can be ended as a whole.
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            _, told = process.communicate(text.encode(), SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            _too_slow.add(key)
            raise RuntimeError(f"{words[0]} takes more than {SECONDS} s") from None
    if process.returncode or not target.is_file():
        said = told[:WORDS].decode(errors="replace").strip()
        raise RuntimeError(f"{words[0]} ends with {process.returncode}: {said or 'no word'}")
