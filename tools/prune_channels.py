"""Prunes channels of a trained recogniser, and writes the config of what is left.

    python tools/prune_channels.py configs/small/r2plus1d.py work_dirs/r2plus1d/iter_400.pth \\
        work_dirs/narrow --share 0.6 --shape 8 36 48 --round-to 2

Of all channels those of least magnitude go, by torch-pruning, until the network has that share of
its MACs. The folder gets a config, pruned.py, and a checkpoint. The network has to learn on:
tools/train.py with that config starts from the checkpoint. It is a static network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import vared_mm  # noqa: F401  (its cures come before any toolbox)
from vared_mm.files import check_kept, half_written, new_folder, write_text
from vared_mm.flops import build_model
from vared_mm.launch import config_of, extra, told_in_a_line
from vared_mm.method.observe import gated_convs
from vared_mm.options import Parser, positive
from vared_mm.rivals.channel_pruning import widths_of, without_channels
from vared_mm.rivals.ghost import ghosts
from vared_mm.settings import bases_of
from vared_mm.tensor_form import answer_of, input_of


@told_in_a_line()
def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("config")
    parser.add_argument("checkpoint", help="of the trained network")
    parser.add_argument("out", type=new_folder, help="folder for config and checkpoint")
    parser.add_argument("--share", type=float, required=True, help="of the MACs, in (0, 1)")
    parser.add_argument("--shape", type=int, nargs="+", required=True, metavar="N", help="T H W")
    parser.add_argument(
        "--round-to", type=positive, default=16, metavar="N",
        help="layers keep a multiple of so many channels; default: %(default)s",
    )  # fmt: skip
    args = parser.parse_args()
    if not 0 < args.share < 1:
        parser.error(f"--share is {args.share}; wanted a part of the MACs between 0 and 1")
    with extra("prune"):
        import torch_pruning  # noqa: F401
    config = config_of(args.config)
    written = args.out / "pruned.py", args.out / "pruned.pth"
    for file in written:
        check_kept([*bases_of(config.filename), args.checkpoint], file)
    model: Any = build_model(config, args.checkpoint)
    check(model)
    inputs = input_of(model, tuple(args.shape))
    narrow, share = without_channels(model, inputs, answer_of, args.share, args.round_to)
    with half_written(written[1]) as half:
        torch.save(
            {"state_dict": narrow.state_dict(), "meta": {"dataset_meta": model.dataset_meta}}, half
        )
    write_text(written[0], text_of(args, config, model, narrow, share))
    print(f"{written[0]} has {share:.3f} of the MACs; train it on")


def check(model: Any) -> None:
    """Refuses what cannot be told by the widths of a backbone."""
    parts = {name for name, _ in model.named_children()} - {"data_preprocessor"}
    if parts != {"backbone", "cls_head"}:
        raise ValueError(
            f"{type(model).__name__} has {', '.join(sorted(parts))}; wanted a recogniser of "
            "backbone and cls_head alone"
        )
    others: dict[str, Any] = {**gated_convs(model), **ghosts(model)}
    if others:
        name, conv = next(iter(others.items()))
        raise ValueError(
            f"{name} is a {type(conv).__name__}; prune the static network, and make dynamic what "
            "is left: VaRedBackbone takes a NarrowedBackbone"
        )


def text_of(args: Any, config: Config, model: Any, narrow: Any, share: float) -> str:
    backbone = {name: v for name, v in config.model.backbone.items() if name != "init_cfg"}
    if "pretrained" in backbone:
        backbone["pretrained"] = None
    widths = widths_of(narrow.backbone, model.backbone)
    narrowed = dict(_delete_=True, type="NarrowedBackbone", backbone=backbone, widths=widths)
    head = dict(in_channels=channels_of(narrow, model))
    load_from = str((args.out / "pruned.pth").resolve())
    own = Config(dict(model=dict(backbone=narrowed, cls_head=head), load_from=load_from))
    # A shipped config may have been named from any folder.
    base = os.path.relpath(config.filename, args.out)
    return (
        f"# {Path(args.config).name} with fewer channels, {share:.3f} of its MACs: by "
        f"vared-mm prune-channels.\n_base_ = {base!r}\n{own.pretty_text}"
    )


def channels_of(narrow: Any, model: Any) -> int:
    """Those that the head gets: its own layers tell, of which the first one to change does."""
    (sizes, *_) = [*widths_of(narrow.cls_head, model.cls_head).values(), None]
    return model.cls_head.in_channels if sizes is None else sizes[1]


if __name__ == "__main__":
    main()
