"""How command lines begin and end: their config, their folder, their processes, their errors."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

import torch

# Functions of it take the group that is there when it is imported as their default, for good.
import torch.distributed.nn
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, init_dist
from mmengine.logging import MMLogger, print_log
from mmengine.runner import Runner, find_latest_checkpoint
from mmengine.utils.dl_utils import set_multi_processing

from vared_mm.commands import as_command
from vared_mm.files import remove_halves
from vared_mm.printing import visible
from vared_mm.screen import quiet
from vared_mm.settings import kind, named_missing
from vared_mm.shipped import here_or_shipped, shipped


def read_config(args: argparse.Namespace) -> Config:
    """The config with what the command line says of it."""
    # What torchrun sets by itself, older launchers pass as an option.
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    config = config_of(args.config, args.cfg_options)
    check_launcher(args.launcher)
    config.launcher = args.launcher
    if args.work_dir:
        config.work_dir = args.work_dir
    elif not config.get("work_dir"):
        config.work_dir = f"work_dirs/{Path(args.config).stem}"
    if args.seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": args.seed}
    return config


def check_launcher(launcher: str) -> None:
    """Refuses one that did not start this process."""
    if (number := RANKS.get(launcher)) and number not in os.environ:
        raise SystemExit(
            f"error: --launcher {launcher} wants {number} in the environment, which tells a "
            f"process its number, and it is not there; start with {STARTERS[launcher]}, or leave "
            "out --launcher for one process"
        )


def config_of(file: str, options: dict[str, Any] | None = None) -> Config:
    """The config file with `options` merged into it."""
    if not (found := here_or_shipped(file)).is_file():
        ours = shipped("configs")
        near = [
            one.relative_to(ours.parent) for one in ours.rglob("*.py") if one.name == found.name
        ]
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SystemExit(f"there is no config file {file}{hint}")
    file = str(found)
    quiet(MMLogger.get_current_instance())
    try:
        config = Config.fromfile(file)
        given = dict.fromkeys(key.partition(".")[0] for key in options or {})
        unknown = given.keys() - set(config)
        config.merge_from_dict(options or {})
    # A config is code, which may end in any way.
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise SystemExit(
            f"error: {visible(f'{file} cannot be read as a config: {told}')}"
        ) from error
    for key in unknown:
        refuse_misspelt(key)
    if unread := [key for key in given if key not in READ]:
        print_log(
            f"--cfg-options sets {', '.join(unread)}, which mmengine's Runner does not read: what "
            "the config made of it stays as it was. To change that, name the settings that hold "
            "it, as test_dataloader.dataset.ann_file or train_cfg.max_epochs", "current",
            logging.WARNING,
        )  # fmt: skip
    if isinstance(hooks := config.get("custom_hooks"), Mapping):
        raise SystemExit(f"error: custom_hooks is {dict(hooks)}; wanted a list of such dicts")
    if isinstance(files := config.get("load_from"), list | tuple):
        raise SystemExit(f"error: load_from is {list(files)}; wanted one checkpoint")
    return config


# Of a config, what mmengine's Runner takes and looks up.
READ = {
    *signature(Runner).parameters, "activation_checkpointing", "compile", "efficient_conv_bn_eval",
    "find_unused_parameters", "model_wrapper_cfg", "runner_type", "strategy", "sync_bn",
}  # fmt: skip


def refuse_misspelt(key: str) -> None:
    """Of what a config holds mmengine's Runner takes what it knows, and passes over the rest."""
    known = signature(Runner).parameters
    near = get_close_matches(key, known, n=1, cutoff=0.8)
    if near and key not in known:
        raise SystemExit(
            f"error: --cfg-options sets {key!r}, which neither the config nor mmengine's Runner "
            f"has; did you mean {near[0]!r}?"
        )


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Ends the process with a line in place of a traceback for what a user can cause; decorates the
    main function of a tool. A run's log file has the traceback: it may be a fault of the code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # As of `vared-mm leaderboard >&-`.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        yield
        # What cannot be written is told here and not by Python at its end.
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        if not isinstance(error, OSError | ValueError) and not is_of_config(error):
            raise
        into_log_file(error)
        raise SystemExit(f"error: {visible(' '.join(said_by(error).split()))}") from error


# What mmengine raises for what a config names, by its text.
OF_CONFIG = re.compile(
    r"is not in the [^.]+ registry|must contain the key .?\"type|type must be a str or valid type"
    r"|cfg should be a dict|got an unexpected keyword argument|missing \d+ required"
)


def is_of_config(error: Exception) -> bool:
    """Whether it was raised while mmengine built what a config names, for its type or keys, or as
    what was built asserts something of its settings."""
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    is_building = any(Path(file).match("mmengine/registry/*.py") for file in files)
    wanted = r"\S" if isinstance(error, AssertionError) else OF_CONFIG
    return is_building and re.search(wanted, str(error)) is not None


def said_by(error: Exception) -> str:
    """Its text; of one in a worker of a data loader, which has a traceback in it, the end."""
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    if "\nOriginal Traceback" in text:
        text = re.split(r"^[\w.]+(?:Error|Exception): ", text, flags=re.MULTILINE)[-1]
    return text


def into_log_file(error: Exception) -> None:
    logger = MMLogger.get_current_instance()
    told = type(error), error, error.__traceback__
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 0, "ended by", (), told)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports: ends the process with a line that tells which extra brings what they lack,
    unless it is asked for help, which parsers give without them."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("vared_mm"):
            raise
        if {"-h", "--help"} & set(sys.argv[1:]):
            return
        raise SystemExit(f"error: {error}; pip install 'vared_mm[{name}]'") from error


def last_checkpoint(folder: str | Path) -> str | None:
    """What a training in `folder` ended with, or None. A folder that was moved or copied names the
    checkpoint by where it was; then the one beside the name is meant.

    Raises:
        SystemExit: There are checkpoints, and none of that name.
    """
    recorded = find_latest_checkpoint(str(folder))
    if recorded and (beside := Path(folder, Path(recorded).name)).is_file():
        return str(beside)
    there = [p.name for p in sorted(Path(folder).glob("*.pth")) if not p.name.startswith(".")]
    if there and not (recorded and Path(recorded).exists()):
        raise SystemExit(
            f"error: {folder}/last_checkpoint names {recorded or 'no file'}, which is not there, "
            f"and {', '.join(there)} {'are' if len(there) > 1 else 'is'}; name the one to go on "
            f"from, as --resume {shlex.quote(str(Path(folder, there[-1])))}"
        )
    return recorded


# Where launchers tell each process its number.
RANKS = {"pytorch": "RANK", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK"}
STARTERS = {"pytorch": "torchrun", "slurm": "srun", "mpi": "Open MPI's mpirun"}


def is_first_process(launcher: str) -> bool:
    """Of those of the launcher, also before they know of each other."""
    return int(os.environ.get(RANKS.get(launcher, ""), 0)) == 0


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Refuses a folder in which another process trains: each would take the other's checkpoints for
    its own. The lock ends with the process, and its children do not have it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder, "in_training"), "ab") as lock:
        try:
            import fcntl

            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise SystemExit(
                f"error: another process trains in {folder}; wait for its end or give another "
                "--work-dir"
            ) from error
        # Windows, and file systems that lock nothing.
        except (ImportError, OSError):
            pass
        else:
            remove_halves(folder, ".pth")
        yield


def run_tool(tool: str, *options: str, env: Mapping[str, str] | None = None) -> None:
    """Another of our command lines, as its user would call it.

    Raises:
        ValueError: It failed.
    """
    command = as_command(tool)
    print(f"$ {command} {shlex.join(options)}", flush=True)
    call = subprocess.run(
        [sys.executable, str(here_or_shipped(tool)), *options], env={**os.environ, **(env or {})}
    )
    if call.returncode:
        raise ValueError(f"{command} ended with {call.returncode}; what it says stands above")


@contextmanager
def processes(config: Config) -> Iterator[None]:
    """Joins the launcher's processes, and leaves them at the end of the work, also by an error.

    Threads of gloo that give back tensors while the interpreter ends would abort it. They end with
    the last reference to the group: a distributed model, and all that holds it, has to be gone. The
    last one is Python's, which ends it without the interpreter's lock: a model's would keep that,
    and wait for threads that wait for it.
    """
    join(config)
    try:
        yield
        # The first process holds the store that the others still talk to.
        barrier()
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, FileNotFoundError) and (named := named_missing(config, error)):
            raise named from error
        raise
    finally:
        if torch.distributed.is_initialized():
            group = torch.distributed.group.WORLD
            torch.distributed.destroy_process_group()
            gc.collect()
            del group


def join(config: Config) -> None:
    """As mmengine's Runner would later, before any work. Without GPUs over gloo, where that start
    asks for GPUs."""
    if config.launcher == "none":
        return
    if config.launcher != "pytorch" or torch.cuda.is_available():
        env = config.get("env_cfg", {})
        # Before the group, which would choose how worker processes begin.
        set_multi_processing(**env.get("mp_cfg", {}), distributed=True)
        init_dist(config.launcher, **env.get("dist_cfg", {}))
        return
    torch.distributed.init_process_group("gloo")
    unused = config.get("find_unused_parameters", False)
    default = {"broadcast_buffers": False, "find_unused_parameters": unused, "device_ids": None}
    wrapper = {"type": "MMDistributedDataParallel", **default}
    config.model_wrapper_cfg = {**wrapper, **config.get("model_wrapper_cfg", {})}


def check_runner(config: Config) -> None:
    """Refuses what other training tools build in the place of mmengine's Runner, as FlexibleRunner
    with a `strategy`."""
    named = kind({"type": config.get("runner_type") or "Runner"})
    if named != "Runner":
        raise SystemExit(
            f"error: runner_type is {named}, and this trains by mmengine's Runner alone, whatever "
            "`strategy` says; leave them out, or train with MMAction2's own tool"
        )


def use_amp(config: Config, dtype: str | None = None) -> None:
    """Mixed precision through mmengine's AmpOptimWrapper."""
    name = kind({"type": "OptimWrapper", **config.optim_wrapper})
    if name not in ("OptimWrapper", "AmpOptimWrapper"):
        raise SystemExit(f"--amp exchanges the OptimWrapper; the config has a {name}")
    config.optim_wrapper.type = "AmpOptimWrapper"
    if dtype:
        config.optim_wrapper.dtype = dtype
    config.optim_wrapper.setdefault("loss_scale", "dynamic")


def check_amp(config: Config) -> None:
    """Refuses mixed precision where mmengine has none."""
    named = kind({"type": "OptimWrapper", **(config.get("optim_wrapper") or {})})
    if named == "AmpOptimWrapper" and get_device() == "cpu":
        raise SystemExit(
            "error: mixed precision (AmpOptimWrapper) needs a GPU, and there is none; leave out "
            "--amp and --amp-dtype, or take OptimWrapper in the config"
        )
