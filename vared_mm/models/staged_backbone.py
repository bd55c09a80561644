"""Frozen stages and fixed BatchNorm statistics, as the toolboxes' backbones offer them."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from vared_mm.method.config import is_whole


class StagedBackbone(BaseModule):
    """A backbone whose first `frozen_stages` + 1 stages are not trained; -1 trains all.

    With `norm_eval` BatchNorm keeps its statistics in training. Unlike MMAction2's, `train`
    returns the module.
    """

    def __init__(
        self, frozen_stages: int, norm_eval: bool, with_cp: bool, init_cfg: dict | list[dict] | None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        last = len(self.stages()) - 1
        if not is_whole(frozen_stages, -1) or frozen_stages > last:
            raise ValueError(
                f"frozen_stages={frozen_stages!r} is not a stage: -1 freezes nothing, 0 to {last} "
                "freeze the stages up to that one"
            )
        self.frozen_stages, self.norm_eval, self.with_cp = frozen_stages, norm_eval, with_cp

    def stages(self) -> Sequence[Sequence[str]]:
        """The names of each stage's submodules, in the order of computation."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def freeze(self) -> None:
        for names in self.stages()[: self.frozen_stages + 1]:
            for name in names:
                getattr(self, name).eval().requires_grad_(False)
