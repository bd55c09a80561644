"""C++ sources of ours: compiled when first wanted, for this machine, and kept.

Nothing but a C++ compiler is needed, and without one nothing is lost but speed: `loaded()` is None
then, and torch's own operations do the same.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

LANES_H = Path(__file__).with_name("lanes.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared")
# GCC prefers half of AVX-512's width, for processors that slowed down in full width.
X86_FLAGS = ("-mprefer-vector-width=512",)


class Source(NamedTuple):
    """A C++ file as it was when the Python that calls it was imported.

    It is compiled when first wanted, minutes or hours later. By then an update may have put another
    version in the file's place, and calls that its functions do not take end in other memory.
    """

    stem: str
    text: str

    @classmethod
    def read(cls, *files: Path) -> Source:
        """The last file, with the others before it as if it included them."""
        texts = (f'#line 1 "{file.name}"\n{file.read_text("utf-8")}' for file in files)
        return cls(files[-1].stem, "\n".join(texts))


def loaded(source: Source, **functions: Sequence[type]) -> ctypes.CDLL | None:
    """The compiled source, or None, after a warning that says why.

    Args:
        functions: By name what those take that return nothing.
    """
    try:
        library = ctypes.CDLL(str(compiled(source)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).warning(
            "the kernels of vared_mm are not used, torch's operations take their place; they "
            "want a C++ compiler with OpenMP (CXX names another one) and a folder to be kept in "
            "(XDG_CACHE_HOME names another one): %s",
            getattr(error, "stderr", None) or error,
        )
        return None
    for name, arguments in functions.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library


def compiled(source: Source) -> Path:
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
    made_of = source.text + " ".join(command) + processor()
    name = f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    target = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vared_mm", name)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside it and renamed: another thread, process or machine that shares the folder
        # may be loading or making the same file.
        with TemporaryDirectory(dir=target.parent) as folder:
            half = Path(folder, name)
            command += ["-x", "c++", "-", "-o", str(half)]
            subprocess.run(
                command, check=True, capture_output=True, encoding="utf-8", input=source.text
            )
            half.replace(target)
    return target


def processor() -> str:
    """What `-march=native` stands for: a home folder may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))]
    return platform.machine() + (flags[0] if flags else platform.processor())


def uncompiled(run: Callable[..., Any], *arguments: Any) -> Any:
    """`run(*arguments)`, which torch.compile calls as it is and does not look into: what ctypes
    does with pointers it cannot trace, nor does it see hooks that come after it."""
    if torch.compiler.is_compiling():
        return torch.compiler.disable(run)(*arguments)
    return run(*arguments)


def nobody_watches(x: Tensor) -> bool:
    """Whether a kernel may stand in for torch's operations on x: it is on a CPU, no gradient passes
    through them, backward or forward, and nothing traces, counts, transforms or replaces them.
    """
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0
        and type(x) is Tensor
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_in_torch_dispatch_mode()
        # What torch.func wraps is of no class of its own, and may have no memory.
        and torch._C._functorch.peek_interpreter_stack() is None
    )
