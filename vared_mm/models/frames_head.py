"""A classifier for each size that frames are seen at, and the mean of what they say of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, normal_init
from mmengine.registry import MODELS
from torch import Tensor, nn

# Which of the N·T frames are seen at a size, (R,), and their features, (R, C), None where R is 0.
Seen = tuple[Tensor, Tensor | None]


@MODELS.register_module()
class FramesHead(BaseModule):
    """The clip's logits are the mean of those of the frames that are not skipped.

    Args:
        num_classes: K.
        in_channels: C of each size.
        dropout_ratio: Of the features, in training.
        init_std: Standard deviation of the classifiers' weights at the start.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        dropout_ratio: float = 0.5,
        init_std: float = 0.01,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes!r}; wanted 2 or more")
        self.num_classes, self.init_std = num_classes, init_std
        self.dropout = nn.Dropout(dropout_ratio)
        self.fc_cls = nn.ModuleList([nn.Linear(c, num_classes) for c in in_channels])

    def init_weights(self) -> None:
        for fc in self.fc_cls:
            normal_init(fc, std=self.init_std)

    def forward(self, seen: Sequence[Seen], choices: Tensor) -> Tensor:
        """(N, K).

        Args:
            seen: Of each size.
            choices: (N, T, A), sizes first; frames that chose another size count as nothing.
        """
        weights = choices.flatten(0, 1)
        total = weights.new_zeros(len(weights), self.num_classes)
        for i, (rows, features) in enumerate(seen):
            if features is not None:
                logits = self.fc_cls[i](self.dropout(features)).to(total)
                total = total.index_add(0, rows, logits * weights[rows, i, None])
        frames = choices[..., : len(seen)].sum((1, 2))
        return total.unflatten(0, choices.shape[:2]).sum(1) / frames[:, None]

    def losses(self, logits: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        labels = labels_of(data_samples, self.num_classes).to(logits.device)
        right = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss_cls": F.cross_entropy(logits, labels), "top1_acc": right}

    def predict(self, logits: Tensor, data_samples: Sequence[Any]) -> list[Any]:
        """`pred_score`, probabilities (K,), and `pred_label` of each."""
        for sample, scores in zip(data_samples, logits.softmax(1), strict=True):
            sample.set_pred_score(scores)
            sample.set_pred_label(scores.argmax(0, keepdim=True))
        return list(data_samples)


def labels_of(data_samples: Sequence[Any], classes: int) -> Tensor:
    """(N,)."""
    labels = [sample.gt_label.flatten() for sample in data_samples]
    if odd := [one for one in labels if len(one) != 1 or not 0 <= int(one) < classes]:
        raise ValueError(
            f"a sample has the gt_label {odd[0].tolist()}; wanted one label from 0 to "
            f"{classes - 1}, as num_classes is {classes}"
        )
    return torch.cat(labels)
