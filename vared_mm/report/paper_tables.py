"""The figures of the paper's Tables 1 to 13, each once, with the config that makes its row here.

VA-RED², ICLR 2021. Nothing of it was measured with vared_mm. They stand in paper_tables.csv: costs
are what the paper calls GFLOPs, which are GMACs by its cost formula; accuracies are percentages;
speed is clips per second on the paper's machine, which it does not tell. `config` is the stem of a
config file, empty where there is none; `axis` which redundancy of a study is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

# NaN is what the paper does not tell.
FIGURES = pd.read_csv(Path(__file__).with_suffix(".csv")).fillna({"config": "", "axis": ""})


@dataclass(frozen=True)
class PaperTable:
    number: int
    caption: str
    columns: tuple[str, ...]
    note: str = ""

    @property
    def studied(self) -> bool:
        """Whether redundancy studies and not results make its rows."""
        return bool(self.rows["axis"].any())

    @property
    def rows(self) -> pd.DataFrame:
        """With `row`, `config`, `axis` and a figure for each of the columns."""
        own = FIGURES[FIGURES["table"] == self.number].reset_index(drop=True)
        return own[["row", "config", "axis", *self.columns]]


COST, SPEED, VIDEO = ("gmacs",), ("gmacs", "speed"), ("clip-1", "video-1")
ENDS = ("gmacs", "gmacs_max", "gmacs_min")
RIVALS = "Fewer channels, Ghost modules, and I3D as CGNet are no rows of the paper."
TABLES = {
    table.number: table
    for table in (
        PaperTable(
            1, "Frames and search space: R(2+1)D-18 on Mini-Kinetics-200",
            (*ENDS, "speed", *VIDEO, "video-5")),
        PaperTable(2, "Three networks on Mini-Kinetics-200, 16 frames", SPEED + VIDEO, RIVALS),
        PaperTable(3, "With a temporal pyramid (TPN) on Mini-Kinetics-200", COST + VIDEO),
        PaperTable(
            4, "CorrNet and AR-Net on Mini-Kinetics-200, 16 frames", ("params", *COST, *VIDEO),
            "The static ResNet-50 is no row of the paper."),
        PaperTable(
            5, "Kinetics-400", (*SPEED, *VIDEO, "video-5"),
            "For X3D the paper counted BatchNorm here; Tables 2 and 6 have the same network with "
            "6.20."),
        PaperTable(6, "Moments in Time", SPEED + VIDEO),
        PaperTable(
            7, "Pruning methods: R(2+1)D on Mini-Kinetics-200", ("gmacs", "clip-1"), RIVALS),
        PaperTable(
            8, "Localization on J-HMDB", (*SPEED, "mAP", "recall", "classif"),
            "The paper leaves the 2-D network out of the cost; ours is that of all networks "
            "together. mAP is frame-mAP with ends of boxes counted as pixels, as YOWO's own "
            "evaluation does."),
        PaperTable(9, "With and without the efficiency loss on Kinetics-400", COST + VIDEO),
        PaperTable(10, "Which axis is dynamic: R(2+1)D-18 on Mini-Kinetics-200", SPEED + VIDEO),
        PaperTable(
            11, "Semantic segmentation, dilated ResNet-18, channels reduced", (*ENDS, "mIoU"),
            "The paper's cost is that of the encoder; ours has the decoder too, and its images' "
            "own sizes."),
        PaperTable(
            12, "Redundancy of feature maps", ("cc", "rmse", "rp"),
            "Rows are matched by the redundancy.json of vared-mm redundancy."),
        PaperTable(
            13, "X3D-M, 120 and 256 epochs", (*COST, *VIDEO, "video-5"),
            "No figures of this table are known here, nor on which of the two data sets it is."),
    )
}  # fmt: skip
