"""`_base_ = 'vared_mm::recognition/x.py'`: our configs under a name, as other projects have it.

mmengine's list of such names is closed, so the function that resolves a base learns ours. This is
a feature, not a cure: it is always there.
"""

from __future__ import annotations

from difflib import get_close_matches

from vared_mm.shipped import shipped

SCOPE = "vared_mm"


def config_path(relative: str) -> str:
    """Path of the config `relative`, as it is written after `vared_mm::`."""
    folder = shipped("configs")
    path = folder / relative
    if path.is_file():
        return str(path)
    known = sorted(found.relative_to(folder).as_posix() for found in folder.rglob("*.py"))
    close = get_close_matches(relative, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {len(known)} configs"
    raise FileNotFoundError(f"no config {relative!r} in {folder}; {hint}")


def apply() -> None:
    """Teach `mmengine.Config` our name. Calling it again changes nothing."""
    from mmengine.config import Config

    original = Config._get_cfg_path
    if getattr(original, "knows_vared_mm", False):
        return

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        scope, separator, relative = cfg_path.partition("::")
        if separator and scope == SCOPE:
            # Our classes stand in mmengine's root registries, so our configs need no scope.
            return config_path(relative), None
        return original(cfg_path, filename)

    get_cfg_path.knows_vared_mm = True  # type: ignore[attr-defined]
    Config._get_cfg_path = staticmethod(get_cfg_path)
