"""What a model answers with choices that are not its own: those of other samples, and one policy.

Every batch is read once and run with all of them in turn; chunks that are done stay done.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.runner.amp import autocast
from mmengine.structures import BaseDataElement

from vared_mm.engine.around_forward import unwrapped
from vared_mm.fast.forced_shares import Plan, forced
from vared_mm.method.fixed_gate import has_one_policy
from vared_mm.report.evaluation_loop import ResumableTestLoop, in_order
from vared_mm.report.kept_chunks import in_use, read_whole, write_whole
from vared_mm.report.policies import Gates, by_gate, dealt
from vared_mm.screen import tracked


def with_other_choices(loop: ResumableTestLoop, deals: int) -> tuple[np.ndarray, np.ndarray] | None:
    """How much of each sample is right with the choices of others, (deals, N), and with the most
    frequent policy for all, (N,); None of a model that chooses nothing. After the loop has run."""
    told: list[Any] = [(loop.gates, loop.samples.policies) if is_main_process() else None]
    broadcast_object_list(told)
    gates, policies = told[0]
    if policies is None or has_one_policy(loop.runner.model):
        return None
    policy = by_gate(policies.names, policies.answers[0])
    plans = [[gates[i] for i in dealt(gates, seed)] for seed in range(deals)]
    plans.append([everywhere(policy, own) for own in gates])
    with in_use(loop.folder):
        right = run_chunks(loop, plans, loop.folder / f"{deals}_deals")
    return right[:-1], right[-1]


def everywhere(policy: Mapping[str, np.ndarray], own: Gates) -> Gates:
    """The policy's answers for all that the sample's gates decide."""
    return {name: np.broadcast_to(policy[name], answers.shape) for name, answers in own.items()}


def run_chunks(
    loop: ResumableTestLoop, plans: Sequence[Sequence[Gates]], folder: Path
) -> np.ndarray:
    """(plans, N): `correct` of each sample, whose gates answer as each of the plans tells."""
    rank, processes = get_dist_info()
    files = [folder / f"{i:05d}" for i in range(len(loop.chunks))]
    missing = [i for i, file in enumerate(files) if read_whole(file) is None]
    # All have to find the same ones missing.
    barrier()
    folder.mkdir(exist_ok=True)
    mine = [i for i in missing if i % processes == rank]
    steps = [
        (i, loop.chunks[i][start : start + loop.batch])
        for i in mine
        for start in range(0, len(loop.chunks[i]), loop.batch)
    ]
    loader: Any = in_order(loop.dataloader, [k for _, places in steps for k in places])
    if steps and is_main_process():
        loader = tracked(loader, len(steps), "with other choices")
    right: list[np.ndarray] = []
    with forced(unwrapped(loop.runner.model)) as follow, torch.no_grad():
        for data, (i, places) in zip(loader, steps, strict=True):
            rows = []
            for plan in plans:
                follow(plan_of([plan[k] for k in places]))
                rows.append(correct(loop, data))
            right.append(np.array(rows))
            if places[-1] == loop.chunks[i][-1]:
                write_whole(files[i], np.concatenate(right, 1).tobytes())
                right.clear()
    barrier()
    kept = [np.frombuffer(read_whole(file) or b"") for file in files]
    return np.concatenate([one.reshape(len(plans), -1) for one in kept], 1)


def plan_of(batch: Sequence[Gates]) -> Plan:
    """Rows in the order that gates are asked for them: pass by pass those of all samples."""
    return {
        name: torch.tensor(np.stack([gates[name] for gates in batch], 1)).flatten(0, 2)
        for name in batch[0]
    }


def correct(loop: ResumableTestLoop, data: Any) -> list[float]:
    with autocast(enabled=loop.fp16):
        # Models write what they predict into the data's samples.
        outputs = loop.runner.model.test_step(copy.deepcopy(data))
    samples = [one.to_dict() if isinstance(one, BaseDataElement) else one for one in outputs]
    return [loop.answer(sample)[2] for sample in samples]
