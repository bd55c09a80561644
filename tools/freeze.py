"""Makes one network for all clips of a dynamic one: the policy that most of them got, fixed.

    python tools/evaluate.py CONFIG CHECKPOINT
    python tools/freeze.py work_dirs/results/vared_i3d_motion/epoch_15-7f2015de frozen.pth

The gates are gone, weights and cheap operations stay. With --random, each gate draws its answer for
each clip instead, as often as the clips got it: what choices have to be better than. So is one
policy with as many MACs as the clips took in the mean, by --same-macs. The config is as before,
with `dynamic.gate` set as this tool tells.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import check_kept, half_written, new_file
from vared_mm.flops import build_model
from vared_mm.launch import extra, told_in_a_line
from vared_mm.method.frozen import frozen
from vared_mm.options import Parser
from vared_mm.settings import dynamic_keys
from vared_mm.shipped import here_or_shipped

with extra("report"):
    from vared_mm.report.evaluated_model import evaluated_config, evaluated_model
    from vared_mm.report.policies import Policies
    from vared_mm.report.policy_of_share import policy_of_share
    from vared_mm.report.result import Samples, check_records_kept, read_result, read_samples


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("result", type=Path, help="folder that vared-mm evaluate wrote")
    parser.add_argument("out", type=new_file, help="checkpoint to write")
    parser.add_argument("--start", help="checkpoint of the static network, whose weights are taken "
                        "with new cheap operations, to train the policy from there")  # fmt: skip
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--random", action="store_true", help="paths are drawn for each clip")
    kinds.add_argument(
        "--same-macs", action="store_true", help="close the paths that clips opened least often, "
        "down to the MACs that they took in the mean",
    )  # fmt: skip
    args = parser.parse_args()
    result = read_result(args.result)
    check_records_kept([args.result], args.out)
    check_kept(map(here_or_shipped, (result.config, result.checkpoint)), args.out)
    if result.choices is None:
        raise SystemExit(
            f"{args.result} tells of no choices: {result.name} is static, or was evaluated by a "
            "former version; run vared-mm evaluate again on a dynamic model"
        )
    config = evaluated_config(result)
    if "module" in config.model:
        raise SystemExit(
            f"a {config.model.type} augments what another model predicts: evaluate that model's "
            "own config, and freeze its policy"
        )
    model = evaluated_model(config, result)
    if args.random or args.same_macs:
        samples = read_samples(args.result)
        assert samples.policies is not None
        tell_left_out(samples.policies, args.result)
        gates = drawn_from(samples.policies) if args.random else of_same_macs(model, samples)
    else:
        policy = result.choices["policy"]
        gates = {name: {"values": torch.tensor(row)} for name, row in policy.items()}
    weights, kind = frozen(model, gates), "random" if args.random else "fixed"
    options = {f"{key}.gate": kind for key in dynamic_keys(config.model, "model")}
    if args.start:
        config.merge_from_dict(options)
        fixed = {key: value for key, value in weights.items() if ".gate." in key}
        weights = {**build_model(config, args.start).state_dict(), **fixed}
    with half_written(args.out) as half:
        torch.save({"state_dict": weights, "meta": {"dataset_meta": model.dataset_meta}}, half)
    print(f"{args.out} is written; evaluate it, or train it on, with one option more:")
    print(*calls(result.config, str(args.out), {**result.options, **options}), sep="\n")


def calls(config: str, checkpoint: str, options: Mapping[str, Any]) -> list[str]:
    """The commands that evaluate the checkpoint and train it on, as a shell takes them."""
    told = [f"{key}={value}" for key, value in options.items()]
    evaluate = ["vared-mm", "evaluate", config, checkpoint, "--cfg-options", *told]
    train = ["vared-mm", "train", config, "--cfg-options", f"load_from={checkpoint}", *told]
    return [f"  {shlex.join(words)}" for words in (evaluate, train)]


def tell_left_out(policies: Policies, result: Path) -> None:
    if (part := policies.left_out()) > 0:
        print(
            f"{result} was written by a former version, which kept the answers of the "
            f"{len(policies.answers)} most frequent policies alone: {100 * part:.1f} % of the "
            "clips chose others and are left out; run vared-mm evaluate again to count all"
        )


def drawn_from(policies: Policies) -> dict[str, dict[str, Tensor]]:
    """What each gate answers, and how often."""
    return {
        name: {
            "values": torch.tensor(rows, dtype=torch.float32),
            "chances": torch.tensor(often / often.sum(), dtype=torch.float32),
        }
        for name, (rows, often) in policies.of_gates().items()
    }


def of_same_macs(model: nn.Module, samples: Samples) -> dict[str, dict[str, Tensor]]:
    """A policy of no fewer MACs than the clips took in the mean."""
    assert samples.policies is not None
    if samples.layer_frames is None:
        raise SystemExit(
            "the result was written by a former version, which did not keep how many frames each "
            "convolution has, by which MACs are counted; run vared-mm evaluate again"
        )
    names, wanted = samples.layer_names.tolist(), float(samples.share.mean())
    macs, frames = (
        dict(zip(names, each.tolist(), strict=True))
        for each in (samples.layer_dense.mean(0), samples.layer_frames)
    )
    gates, share = policy_of_share(model, samples.policies, macs, frames, wanted)
    print(
        f"the policy takes {share:.3f} of the MACs of the dynamic convolutions, where the clips "
        f"took {wanted:.3f} in the mean"
    )
    return gates


if __name__ == "__main__":
    main()
