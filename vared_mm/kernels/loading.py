"""C++ sources of ours: compiled when first wanted, for this machine, and kept.

Nothing but a C++ compiler is needed, and without one nothing is lost but speed: `loaded()` is None
then, and torch's own operations do the same.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from vared_mm.kernels.compiler import command, compile_source, identity
from vared_mm.kernels.functions import Function, functions_of
from vared_mm.kernels.own_folder import is_own, own_folder

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

    def of(self, dtype: torch.dtype) -> Source:
        """The same for maps of float32 or bfloat16."""
        if dtype != torch.bfloat16:
            return self
        return Source(f"{self.stem}_bfloat16", f"#define BFLOAT16\n{self.text}")


def loaded(source: Source) -> dict[str, Function] | None:
    """The functions of the compiled source by name, or None, after a warning that says why."""
    try:
        return functions_of(ctypes.CDLL(str(compiled(source))), source.text)
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        warn(str(error))
        return None


def kernels_of(source: Source) -> Callable[..., dict[str, Function] | None]:
    """What loads them when they are first wanted for a type of maps, by default float32."""
    return cache(lambda maps=torch.float32: loaded(source.of(maps)))


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
