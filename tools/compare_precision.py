"""Tests a checkpoint in float32 and prepared for inference in bfloat16: what that changes.

    python tools/compare_precision.py CONFIG CHECKPOINT

Prints the metrics of both, how many samples get another answer, and for how many a gate opens other
paths: gates decide in float32, of maps that are rounded. Where the processor does not compute in
bfloat16 the same roundings take longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.fast import prepare_for_inference
from vared_mm.fast.benchmark import refuse_augmented
from vared_mm.launch import extra, processes, read_config, told_in_a_line
from vared_mm.options import run_parser
from vared_mm.runners import CheckedRunner
from vared_mm.tensor_form import answer_of, call_of

with extra("report"):
    import pandas as pd


@told_in_a_line()
def main() -> None:
    parser = run_parser(__doc__ or "")
    parser.add_argument("checkpoint", type=Path, help="checkpoint file")
    args = parser.parse_args()
    if not args.checkpoint.is_file():
        raise SystemExit(f"there is no checkpoint {args.checkpoint}")
    config = read_config(args)
    if config.launcher != "none":
        raise SystemExit("error: one process compares them; leave out --launcher")
    config.load_from, config.resume = str(args.checkpoint), False
    with processes(config):
        print(compared(config))


class Told(Hook):
    """What a test answers to each sample, in its order."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.policies: list[tuple] = []

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for sample in outputs:
            if "pred_score" in sample:
                self.answers.append(int(sample.pred_score.argmax()))
            if "mac_cost" in sample and sample.mac_cost.gates:
                gates = sample.mac_cost.gates.values()
                self.policies.append(tuple(tuple((v > 0).ravel()) for v in gates))


def compared(config: Config) -> str:
    runner = CheckedRunner.from_cfg(config)
    # Also where a GPU is: on it there is nothing to prepare in another precision.
    runner.model = runner.model.cpu()
    inputs = inputs_of(runner.model, next(iter(runner.test_loop.dataloader)))
    single, half = Told(), Told()
    runner.register_hook(single)
    metrics = {"float32": runner.test()}
    runner.hooks.remove(single)
    runner.register_hook(half)
    call = call_of(runner.model)
    runner.model = prepare_for_inference(runner.model, inputs, precision="bfloat16", **call)
    metrics["bfloat16, prepared"] = runner.test()
    names = comparable(metrics["float32"])
    lines = [pd.DataFrame(metrics).loc[names].to_markdown(floatfmt=".4f")]
    if single.answers:
        lines.append(f"another answer: {differ(single.answers, half.answers)}")
    if single.policies:
        lines.append(f"other choices: {differ(single.policies, half.policies)}")
    return "\n".join(lines)


def comparable(metrics: Mapping[str, float]) -> list[str]:
    """The names of those that stay what they are: what is static and prepared runs in kernels that
    no counter sees."""
    return [n for n in metrics if "gmacs" not in n and not n.endswith(("_min", "_max"))]


def inputs_of(model: BaseModel, batch: Any) -> Tensor:
    """What the model is prepared for.

    Raises:
        ValueError: It does not run on them alone.
    """
    refuse_augmented(batch)
    model.eval()
    with torch.no_grad():
        inputs = model.data_preprocessor(batch)["inputs"]
        inputs = torch.stack(inputs) if isinstance(inputs, list) else inputs
        answer_of(model, inputs)
    return inputs


def differ(one: list, other: list) -> str:
    count = sum(a != b for a, b in zip(one, other, strict=True))
    return f"{count} of {len(one)} samples ({100 * count / len(one):.1f} %)"


if __name__ == "__main__":
    main()
