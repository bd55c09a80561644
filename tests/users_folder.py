"""A user's folder outside the repository, and the command lines as they are typed there."""

import os
import subprocess
import sys
from pathlib import Path

from vared_mm.datasets.motion_clips import MotionClipsConfig, make_motion_clips

ROOT = Path(__file__).parents[1]
TRAIN, TEST = (ROOT / "tools" / f"{name}.py" for name in ("train", "test"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

LEAF = """
_base_ = 'vared_mm::demo/vared_i3d_motion.py'
custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
load_from = None
model = dict(backbone=dict(width=0.125), cls_head=dict(in_channels=128))
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=3, **loader,
    dataset=dict(dataset=dict(ann_file='clips/train.txt', data_prefix=dict(video='clips'))))
val_dataloader = dict(
    batch_size=3, **loader,
    dataset=dict(dataset=dict(ann_file='clips/val.txt', data_prefix=dict(video='clips'))))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = []
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best=None))
"""


def fill(folder):
    """18 clips to train on, 9 to test, a config."""
    config = MotionClipsConfig(clips_per_class=2, val_clips_per_class=1, frames=16, size=64)
    make_motion_clips(folder / "clips", config)
    (folder / "vared_i3d_motion.py").write_text(LEAF)
    return folder


def command(tool, *options):
    return [sys.executable, str(tool), *map(str, options)]


def run(folder, tool, *options):
    done = subprocess.run(
        command(tool, *options), cwd=folder, env=ENVIRONMENT,
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr
