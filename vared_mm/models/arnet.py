"""AR-Net, a rival of the paper's Table 4: each frame of a clip at the size it needs.

Meng et al., ECCV 2020: a small network sees all frames at the smallest size and chooses, for each,
whether a larger network sees it at a larger one, its own answer will do, or frames are skipped.
N clips, T frames, C channels; A actions, S of them sizes; choices are (N, T, A), one of A is 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn

from vared_mm.method.config import is_within
from vared_mm.method.observe import Look
from vared_mm.method.told_settings import keep_settings
from vared_mm.models.frame_sizes import channels_and_macs, check_actions, features_at
from vared_mm.models.frames_head import FramesHead, Seen
from vared_mm.rivals.frame_policy import FramePolicy, FrameRecord, rows_of, temperature, uneven_use


def is_frames_head(config: Any) -> bool:
    kind = config.get("type") if isinstance(config, dict) else None
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return inspect.isclass(found) and issubclass(found, FramesHead)


@MODELS.register_module()
class ARNet(BaseModel):
    """Inputs are MMAction2's for 2-D networks, (N, T, C, H, W), with any T.

    In training all backbones see all frames, as the gradient of the choices needs: every parameter
    has one in every step, and distributed training wants no `find_unused_parameters`. In evaluation
    only what was chosen runs, the frames of one size as one batch; the network that chooses sees
    all frames.

    The loss is (1 - w) · CE + w · (mean cost + balance · ‖usage - mean usage‖₂), both means those
    over all frames, the usage that of the A actions.

    Args:
        policy: The backbone that chooses, and that of the smallest size.
        backbones: One for each larger size.
        cls_head: A `FramesHead`, without its `in_channels`.
        sizes: Sides of square frames in pixels, from the largest, that of the inputs, down.
        skips: How many frames each skip leaves out.
        hidden: Units of the LSTM.
        efficiency_weight: w.
        balance: Weight of the usage within it.
        cost_unit: MACs of a frame that cost 1. The choosing network's own action and skips cost 0.
        epochs: As how many of them the training counts in τ = 5 · exp(-0.045 · epoch), whatever
            its loop counts.
        draws_in_test: Whether evaluation draws the choices too, as the authors' code does, and does
            not take the likeliest.
    """

    def __init__(
        self,
        policy: dict[str, Any],
        backbones: Sequence[dict[str, Any]],
        cls_head: dict[str, Any],
        sizes: Sequence[int] = (224, 168, 112, 84),
        skips: Sequence[int] = (1, 2, 4),
        hidden: int = 512,
        efficiency_weight: float = 0.05,
        balance: float = 3.0,
        cost_unit: float = 1e9,
        epochs: float = 120,
        draws_in_test: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_actions(sizes, skips, len(backbones))
        if not is_within(efficiency_weight, 0, 1) or efficiency_weight == 1:
            raise ValueError(
                f"efficiency_weight is {efficiency_weight!r}; wanted 0 or more, below 1"
            )
        numbers = dict(cost_unit=cost_unit, epochs=epochs, hidden=hidden)
        for name, number in numbers.items():
            if not is_within(number, 0) or number == 0:
                raise ValueError(f"{name} is {number!r}; wanted a number above 0")
        if not is_frames_head(cls_head):
            raise ValueError(f"cls_head is {cls_head!r}; wanted a dict of type FramesHead")
        self.sizes, self.draws_in_test, self.epochs = tuple(sizes), draws_in_test, epochs
        self.efficiency_weight, self.balance = efficiency_weight, balance
        self.policy_backbone: nn.Module = MODELS.build(policy)
        self.backbones = ModuleList([MODELS.build(one) for one in backbones])
        nets = zip([*self.backbones, self.policy_backbone], self.sizes, strict=True)
        channels, macs = zip(*(channels_and_macs(net, size) for net, size in nets), strict=True)
        self.policy = FramePolicy(channels[-1], hidden, len(sizes), skips)
        self.cls_head: FramesHead = MODELS.build({**cls_head, "in_channels": channels})
        # Of a frame by action; the loss leaves the classifiers out.
        larger, none = [*macs[:-1], 0], [0.0] * len(skips)
        classes = self.cls_head.num_classes
        self.costs = [m / cost_unit for m in larger] + none
        self.frame_macs = [float(m + c * classes) for m, c in zip(larger, channels, strict=True)]
        self.frame_macs += none
        keep_settings(self)

    def told_settings(self) -> dict[str, Any]:
        lengths = self.policy.lengths[len(self.sizes) :]
        return {"sizes": self.sizes, "skips": tuple(lengths.tolist())}

    @property
    def tau(self) -> float:
        """As far as the running training has come."""
        hub = MessageHub.get_current_instance()
        done = hub.get_info("iter", 0) / max(hub.get_info("max_iters", 1), 1)
        # After a resume with other batches the count of steps is the former ones'.
        epoch, epochs = hub.get_info("epoch", 0), max(hub.get_info("max_epochs", 1), 1)
        done = min(max(done, epoch / epochs), (epoch + 1) / epochs)
        return temperature(self.epochs * done)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[Any] | None = None,
        mode: str = "tensor",
        stage: str = "head",
    ) -> Any:
        self._check(inputs, mode, stage)
        logits, choices = self.logits(inputs)
        if mode == "tensor":
            return logits
        if data_samples is None:
            raise ValueError(f"mode={mode!r} needs data_samples; without them there is 'tensor'")
        if mode == "loss":
            return self.losses(logits, choices, data_samples)
        return self.cls_head.predict(logits, data_samples)

    def logits(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K), and the choices."""
        frames = inputs.flatten(0, 1)
        small = features_at(self.policy_backbone, frames, self.sizes[-1])
        draws = self.training or self.draws_in_test
        # What is drawn is the same at any τ, which shapes the gradient.
        choices = self.policy(small.unflatten(0, inputs.shape[:2]), self.tau if draws else None)
        see = self.every_frame if self.training else self.chosen_frames
        return self.cls_head(see(frames, small, choices), choices), choices

    def every_frame(self, frames: Tensor, small: Tensor, choices: Tensor) -> list[Seen]:
        """All frames at all sizes."""
        rows = torch.arange(len(frames), device=frames.device)
        nets = zip(self.backbones, self.sizes, strict=False)
        return [*((rows, features_at(net, frames, size)) for net, size in nets), (rows, small)]

    def chosen_frames(self, frames: Tensor, small: Tensor, choices: Tensor) -> list[Seen]:
        """Each frame at the size that was chosen; a size that nobody chose does not run."""
        *larger, own = rows_of(choices, len(self.sizes))
        nets = zip(larger, self.backbones, self.sizes, strict=False)
        seen = [
            (rows, features_at(net, frames[rows], size) if len(rows) else None)
            for rows, net, size in nets
        ]
        return [*seen, (own, small[own])]

    def losses(
        self, logits: Tensor, choices: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """With `mac_share`, what evaluation would run of all frames at the largest size, and τ."""
        w = self.efficiency_weight
        losses = self.cls_head.losses(logits, data_samples)
        share = choices.new_tensor([macs / self.frame_macs[0] for macs in self.frame_macs])
        return {
            **losses,
            "loss_cls": (1 - w) * losses["loss_cls"],
            "loss_cost": w * (choices * choices.new_tensor(self.costs)).sum(2).mean(),
            "loss_usage": w * self.balance * uneven_use(choices),
            "mac_share": (choices.detach() * share).sum(2).mean(),
            "tau": share.new_tensor(self.tau),
        }

    @contextmanager
    def record_cost(self) -> Iterator[FrameRecord]:
        """In the place of `observe.record_cost`."""
        record = FrameRecord(macs=self.frame_macs)
        look = Look(self.policy, lambda module, args, choices: record.choices.append(choices))
        try:
            yield record
        finally:
            look.remove()

    def _check(self, inputs: Tensor, mode: str, stage: str) -> None:
        side = self.sizes[0]
        if inputs.ndim != 5 or inputs.shape[2:] != (3, side, side) or not inputs.shape[1]:
            raise ValueError(
                f"ARNet wants 2-D frames (N, T, 3, {side}, {side}), of the first of its sizes; "
                f"came {tuple(inputs.shape)}. FormatShape of the pipelines and format_shape of the "
                "data_preprocessor have to be 'NCHW', and the crop as large"
            )
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"mode={mode!r} is none of 'tensor', 'loss' and 'predict'")
        if stage != "head":
            raise ValueError(
                f"stage={stage!r}: the frames of an ARNet have features of different networks; "
                "there is stage='head' alone"
            )
