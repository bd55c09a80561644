"""The figures of the paper's Tables 1 to 13, each once, with the config that makes its row here.

VA-RED², ICLR 2021. Nothing in this file was measured with vared_mm. Costs are what the paper calls
GFLOPs, which are GMACs by its cost formula; accuracies are percentages; speed is clips per second
on the paper's machine, which it does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


class PaperRow(NamedTuple):
    """`figures` stand in the order of the table's columns; None is what the paper does not tell.

    `config` is the stem of a config file, None where there is none; `axis` which redundancy of a
    study is meant, "time" or "channel".
    """

    name: str
    config: str | None
    figures: tuple[float | None, ...]
    axis: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """Columns are named as `MEASURES` of the leaderboard are."""

    number: int
    caption: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.figures) != len(self.columns):
                raise ValueError(
                    f"Table {self.number}, {row.name}: {len(row.figures)} figures for "
                    f"{len(self.columns)} columns"
                )


def pair(
    name: str, config: str, static: tuple[float | None, ...], dynamic: tuple[float | None, ...]
) -> Iterator[PaperRow]:
    """A network and its dynamic form, whose config has the prefix."""
    prefix = "vared_" if config.endswith("_k400") else "vared-"
    yield PaperRow(name, config, static)
    yield PaperRow(f"{name}, dynamic", prefix + config, dynamic)


MINI = "8xb12-{}-120e_mini-kinetics200-rgb"
K400 = "8xb12-{}-120e_kinetics400-rgb"
MIT = "8xb12-{}-60e_mit-rgb"
CLIPS = {8: "8x8x1", 16: "16x4x1", 32: "32x2x1"}  # by frames
X3D_CLIP = "16x5x1"


def r2plus1d(data: str, frames: int, form: str = "") -> str:
    """`form` tells of the dynamic network what differs from the usual one."""
    return f"r2plus1d_r18_{form}{data.format(CLIPS[frames])}"


def i3d(data: str, frames: int = 16, form: str = "") -> str:
    if data == K400 and frames == 16 and not form:
        return "i3d_k400"
    return f"i3d_inception_{form}{data.format(CLIPS[frames])}"


def x3d(data: str) -> str:
    return f"x3d_m_{data.format(X3D_CLIP)}"


TABLE_1 = PaperTable(
    1,
    "Frames and search space: R(2+1)D-18 on Mini-Kinetics-200",
    ("gmacs", "gmacs_max", "gmacs_min", "speed", "clip-1", "video-1", "video-5"),
    (
        PaperRow("8 frames", r2plus1d(MINI, 8), (27.7, 27.7, 27.7, 192.1, 56.4, 66.8, 86.8)),
        PaperRow(
            "8 frames, search space 2",
            f"vared-{r2plus1d(MINI, 8)}",
            (20.0, 22.1, 18.0, 205.5, 57.7, 68.0, 87.4),
        ),
        PaperRow(
            "8 frames, search space 3",
            f"vared-{r2plus1d(MINI, 8, 's3_')}",
            (21.6, 23.2, 19.8, 201.4, 58.2, 67.7, 87.4),
        ),
        PaperRow("16 frames", r2plus1d(MINI, 16), (55.2, 55.2, 55.2, 97.1, 57.5, 67.5, 87.1)),
        PaperRow(
            "16 frames, search space 2",
            f"vared-{r2plus1d(MINI, 16)}",
            (40.4, 43.2, 36.6, 108.7, 60.6, 70.0, 88.7),
        ),
        PaperRow("32 frames", r2plus1d(MINI, 32), (110.5, 110.5, 110.5, 49.6, 60.5, 69.4, 88.2)),
        PaperRow(
            "32 frames, search space 2",
            f"vared-{r2plus1d(MINI, 32)}",
            (79.3, 89.5, 72.4, 53.4, 63.3, 72.3, 89.7),
        ),
    ),
)

TABLE_2 = PaperTable(
    2,
    "Three networks on Mini-Kinetics-200, 16 frames",
    ("gmacs", "speed", "clip-1", "video-1"),
    (
        *pair("R(2+1)D", r2plus1d(MINI, 16), (55.2, 97.1, 57.5, 67.5), (40.4, 108.7, 60.6, 70.0)),
        *pair("I3D", i3d(MINI), (56.0, 116.4, 59.7, 68.3), (26.5, 141.7, 62.2, 71.1)),
        *pair("X3D", x3d(MINI), (6.20, 169.4, 66.5, 72.2), (5.03, 178.2, 65.5, 72.1)),
    ),
)

TABLE_3 = PaperTable(
    3,
    "With a temporal pyramid (TPN) on Mini-Kinetics-200",
    ("gmacs", "clip-1", "video-1"),
    (
        *pair("TPN-8f", f"tpn-{r2plus1d(MINI, 8)}", (28.5, 58.9, 67.2), (21.5, 59.2, 68.8)),
        *pair("TPN-16f", f"tpn-{r2plus1d(MINI, 16)}", (56.8, 59.8, 68.5), (41.5, 60.8, 70.6)),
    ),
)

TABLE_4 = PaperTable(
    4,
    "CorrNet and AR-Net on Mini-Kinetics-200, 16 frames",
    ("params", "gmacs", "clip-1", "video-1"),
    (
        *pair(
            "CorrNet",
            f"corrnet_r18_{MINI.format(CLIPS[16])}",
            (None, 60.8, 59.9, 68.2),
            (None, 45.5, 60.4, 70.0),
        ),
        PaperRow("AR-Net", None, (63.0, 44.8, 67.2, None)),
        PaperRow("ResNet-50, static", f"tsn_r50_{MINI.format('1x1x16')}", (None,) * 4),
        PaperRow(
            "VA-RED² beside AR-Net",
            f"vared-tsn_r50_{MINI.format('1x1x16')}",
            (23.9, 43.4, 68.3, None),
        ),
    ),
    "The static ResNet-50 is no row of the paper.",
)

TABLE_5 = PaperTable(
    5,
    "Kinetics-400",
    ("gmacs", "speed", "clip-1", "video-1", "video-5"),
    (
        *pair(
            "R(2+1)D, 16 frames",
            r2plus1d(K400, 16),
            (55.2, 97.1, 57.3, 65.6, 86.3),
            (40.3, 105.9, 58.4, 67.6, 87.6),
        ),
        *pair(
            "R(2+1)D, 32 frames",
            r2plus1d(K400, 32),
            (110.5, 49.6, 61.5, 69.0, 88.6),
            (80.7, 53.0, 61.5, 70.0, 88.9),
        ),
        *pair(
            "I3D, 16 frames",
            i3d(K400),
            (56.0, 116.4, 55.1, 66.5, 86.7),
            (32.1, 140.7, 58.6, 67.1, 87.2),
        ),
        *pair(
            "I3D, 32 frames",
            i3d(K400, 32),
            (112.0, 57.6, 57.2, 64.9, 86.5),
            (64.3, 71.7, 61.0, 68.6, 88.4),
        ),
        *pair(
            "X3D",
            x3d(K400),
            (6.42, 169.4, 63.2, 70.6, 90.0),
            (5.38, 177.6, 65.3, 72.4, 90.7),
        ),
    ),
    "For X3D the paper counted BatchNorm here; Tables 2 and 6 have the same network with 6.20.",
)

TABLE_6 = PaperTable(
    6,
    "Moments in Time",
    ("gmacs", "speed", "clip-1", "video-1"),
    (
        *pair("R(2+1)D", r2plus1d(MIT, 16), (55.2, 97.1, 27.0, 28.8), (42.5, 105.5, 27.3, 30.1)),
        *pair("I3D", i3d(MIT), (56.0, 116.4, 25.7, 26.8), (32.1, 140.7, 26.3, 28.5)),
        *pair("X3D", x3d(MIT), (6.20, 169.4, 24.8, 24.8), (5.21, 177.4, 26.7, 27.7)),
    ),
)

TABLE_7 = PaperTable(
    7,
    "Pruning methods: R(2+1)D on Mini-Kinetics-200",
    ("gmacs", "clip-1"),
    (
        PaperRow("weight-level, 8 frames", None, (19.9, 54.5)),
        PaperRow("weight-level, 16 frames", None, (40.3, 57.7)),
        PaperRow("weight-level, 32 frames", None, (79.6, 59.6)),
        PaperRow("CGNet, 8 frames", None, (23.8, 56.2)),
        PaperRow("CGNet, 16 frames", None, (47.6, 57.8)),
        PaperRow("CGNet, 32 frames", None, (95.3, 61.8)),
    ),
)

TABLE_8 = PaperTable(
    8,
    "Localization on J-HMDB",
    ("gmacs", "speed", "mAP", "recall", "classif"),
    (
        *pair(
            "I3D",
            "yowo-i3d_8xb12-16x1x1-10e_jhmdb21-rgb",
            (43.9, 141.1, 44.8, 67.3, 87.2),
            (21.3, 167.4, 47.2, 65.6, 91.1),
        ),
        *pair(
            "X3D",
            "yowo-x3d_8xb12-16x1x1-10e_jhmdb21-rgb",
            (5.75, 176.3, 47.9, 65.2, 93.2),
            (4.85, 184.6, 50.0, 65.8, 93.0),
        ),
    ),
    "The paper leaves the 2-D network out of the cost; ours is that of all networks together. mAP "
    "is frame-mAP with ends of boxes counted as pixels, as YOWO's own evaluation does.",
)

TABLE_9 = PaperTable(
    9,
    "With and without the efficiency loss on Kinetics-400",
    ("gmacs", "clip-1", "video-1"),
    (
        PaperRow(
            "R(2+1)D, without",
            f"vared-{r2plus1d(K400, 16, 'no-efficiency_')}",
            (49.8, 57.9, 66.7),
        ),
        PaperRow("R(2+1)D, with", f"vared-{r2plus1d(K400, 16)}", (40.3, 58.4, 67.6)),
        PaperRow("I3D, without", f"vared-{i3d(K400, form='no-efficiency_')}", (56.0, 58.0, 66.5)),
        PaperRow("I3D, with", f"vared_{i3d(K400)}", (32.1, 58.6, 67.1)),
    ),
)

TABLE_10 = PaperTable(
    10,
    "Which axis is dynamic: R(2+1)D-18 on Mini-Kinetics-200",
    ("gmacs", "speed", "clip-1", "video-1"),
    (
        PaperRow("8 frames, neither", r2plus1d(MINI, 8), (27.7, 192.1, 56.4, 66.8)),
        PaperRow(
            "8 frames, time", f"vared-{r2plus1d(MINI, 8, 'time_')}", (23.5, 198.6, 57.1, 66.8)
        ),
        PaperRow(
            "8 frames, channels",
            f"vared-{r2plus1d(MINI, 8, 'channel_')}",
            (22.7, 196.5, 57.0, 66.7),
        ),
        PaperRow("8 frames, both", f"vared-{r2plus1d(MINI, 8)}", (20.0, 205.5, 57.7, 68.0)),
        PaperRow("16 frames, neither", r2plus1d(MINI, 16), (55.2, 97.1, 57.5, 67.5)),
        PaperRow(
            "16 frames, time", f"vared-{r2plus1d(MINI, 16, 'time_')}", (46.1, 105.0, 58.6, 67.6)
        ),
        PaperRow(
            "16 frames, channels",
            f"vared-{r2plus1d(MINI, 16, 'channel_')}",
            (46.3, 102.0, 59.2, 68.3),
        ),
        PaperRow("16 frames, both", f"vared-{r2plus1d(MINI, 16)}", (40.4, 108.7, 60.6, 70.0)),
    ),
)

TABLE_11 = PaperTable(
    11,
    "Semantic segmentation, dilated ResNet-18, channels reduced",
    ("gmacs", "gmacs_max", "gmacs_min", "mIoU"),
    tuple(
        pair(
            "dilated ResNet-18",
            "fcn_r18-d8_1xb8-100k_ade20k",
            (10.6, 10.6, 10.6, 31.2),
            (7.8, 9.1, 7.3, 31.3),
        )
    ),
    "The paper's cost is that of the encoder; ours has the decoder too, and its images' own sizes.",
)

TABLE_12 = PaperTable(
    12,
    "Redundancy of feature maps",
    ("cc", "rmse", "rp"),
    tuple(
        PaperRow(f"{data}, {network}, {axis}", config, figures, axis)
        for data, network, config, time, channel in (
            ("Moments in Time", "I3D", i3d(MIT), (0.77, 0.083, 0.62), (0.71, 0.112, 0.48)),
            (
                "Moments in Time", "R(2+1)D", r2plus1d(MIT, 16),
                (0.73, 0.108, 0.49), (0.68, 0.122, 0.43),
            ),
            ("Kinetics-400", "I3D", i3d(K400), (0.81, 0.074, 0.68), (0.76, 0.091, 0.61)),
            (
                "Kinetics-400", "R(2+1)D", r2plus1d(K400, 16),
                (0.78, 0.081, 0.64), (0.73, 0.088, 0.58),
            ),
        )
        for axis, figures in (("time", time), ("channel", channel))
    ),
    "Rows are matched by the redundancy.json of tools/redundancy.py.",
)  # fmt: skip

NOTHING = (None, None, None, None)
TABLE_13 = PaperTable(
    13,
    "X3D-M, 120 and 256 epochs",
    ("gmacs", "clip-1", "video-1", "video-5"),
    tuple(
        row
        for data, config in (("Mini-Kinetics-200", MINI), ("Kinetics-400", K400))
        for epochs in (120, 256)
        for row in pair(
            f"{data}, {epochs} epochs", x3d(config).replace("120e", f"{epochs}e"), NOTHING, NOTHING
        )
    ),
    "No figures of this table are known here, nor on which of the two data sets it is.",
)

TABLES = {
    table.number: table
    for table in (
        TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7, TABLE_8, TABLE_9, TABLE_10,
        TABLE_11, TABLE_12, TABLE_13,
    )
}  # fmt: skip
