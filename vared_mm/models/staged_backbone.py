"""Frozen stages and fixed BatchNorm statistics, as the toolboxes' backbones offer them."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self


class StagedBackbone(BaseModule):
    """A backbone whose first `frozen_stages` + 1 stages are not trained; -1 trains all.

    With `norm_eval` BatchNorm keeps its statistics in training. Unlike MMAction2's, `train`
    returns the module.
    """

    frozen_stages: int
    norm_eval: bool

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
