"""C++ sources of ours: compiled when first wanted, for this machine, and kept.

Nothing but a C++ compiler is needed, and without one nothing is lost but speed: `loaded()` is None
then, and torch's own operations do the same.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vared_mm.compiler import command, compile_source, identity
from vared_mm.own_folder import is_own, own_folder

LANES_H = Path(__file__).with_name("lanes.h")


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
        for name, arguments in functions.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        warn(str(error))
        return None
    return library


@cache
def warn(reason: str) -> None:
    """Once for all sources that miss the same."""
    logging.getLogger(__name__).warning(
        "the kernels of vared_mm are not used, torch's operations take their place; they "
        "want a C++ compiler with OpenMP (CXX names another one) and a folder to be kept in "
        "(XDG_CACHE_HOME names another one): %s",
        reason,
    )


def compiled(source: Source) -> Path:
    """The shared library's file, made if it is not there yet or not as it was made.

    Raises:
        OSError: There is no compiler, or the folder cannot be written or is not the user's own.
        RuntimeError: There is no home folder, or the compiler refuses.
        ValueError: `CXX` is no command.
    """
    words = command()
    key = sha256(f"{source.text}\n{identity(words)}".encode(errors="surrogateescape")).hexdigest()
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = own_folder(Path(caches, "vared_mm"))
    target = folder / f"{source.stem}-{key[:16]}.so"
    if not _is_whole(target, key):
        # Written beside it and renamed: another thread, process or machine that shares the folder
        # may be loading or making the same file.
        with TemporaryDirectory(dir=folder) as beside:
            half = Path(beside, target.name)
            compile_source(words, source.text, half)
            half.chmod(0o700)
            with half.open("ab") as file:
                file.write(_seal(half.read_bytes(), key))
            half.replace(target)
    return target


def _is_whole(target: Path, key: str) -> bool:
    """Whether the file is as it was made, of this source: loading another may end the process."""
    if not target.is_file() or not is_own(target):
        return False
    content = target.read_bytes()
    end = len(_seal(b"", key))
    return content[-end:] == _seal(content[:-end], key)


def _seal(library: bytes, key: str) -> bytes:
    """What follows the library in its file, where no loader looks."""
    return b"\n" + sha256(key.encode() + library).hexdigest().encode()


def uncompiled(run: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """What `run` answers, which torch.compile calls as it is and does not look into: what ctypes
    does with pointers it cannot trace, nor does it see hooks that come after it."""
    if torch.compiler.is_compiling():
        return torch.compiler.disable(run)(*arguments, **settings)
    return run(*arguments, **settings)


def is_traced() -> bool:
    """Whether `torch.jit.trace`, the ONNX exporters, `torch.export` or `make_fx` write down what
    runs."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        return True
    if not is_in_torch_dispatch_mode():
        return False
    # Half a second to import, which none but those under such a mode need.
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    return get_proxy_mode() is not None


def is_vmapped() -> bool:
    """Whether `torch.func.vmap` runs, whose tensors tell no number."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        return False
    stack = torch._C._functorch.get_interpreter_stack() or []
    return any(one.key() == torch._C._functorch.TransformType.Vmap for one in stack)


def nobody_watches(x: Tensor) -> bool:
    """Whether a kernel may stand in for torch's operations on x: it is on a CPU, no gradient passes
    through them, backward or forward, and nothing traces, counts, transforms or replaces them.
    """
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0
        and type(x) is Tensor
        # Such a view has the memory of what it negates, and the operations change the sign.
        and not x.is_neg()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_in_torch_dispatch_mode()
        # What torch.func wraps is of no class of its own, and may have no memory.
        and torch._C._functorch.peek_interpreter_stack() is None
    )
