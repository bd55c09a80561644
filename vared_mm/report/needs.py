"""What samples computed, against what they are known to need: see `datasets.need_clips`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from vared_mm.datasets.tables import AnnotationError, read_csv
from vared_mm.report.choices import spearman
from vared_mm.report.result import Samples
from vared_mm.report.same_model import spelled, with_part


def needs_table(samples: Samples, file: Path) -> str:
    """In Markdown: for each half what is right, the share and its correlation with the difficulty;
    for all together that with the half and the difficulty within it. The last half by name is taken
    to need most.

    Args:
        file: A csv with the columns file, half and difficulty (a number), where each sample's file
            ends with one of its own.

    Raises:
        AnnotationError: It does not tell of a sample, or what is no number.
    """
    told = {}
    for line, row in read_csv(file, ("file", "half", "difficulty")):
        try:
            told[Path(row["file"])] = row["half"], float(row["difficulty"])
        except ValueError:
            raise AnnotationError(
                f"{file}, line {line} has the difficulty {row['difficulty']!r}; wanted a number"
            ) from None
    # As many of the last parts of a path as the file's own have.
    depth = max((len(path.parts) for path in told), default=1)
    names = [Path(*Path(name).parts[-depth:]) for name in samples.file.tolist()]
    if missing := [str(name) for name in names if name not in told]:
        raise AnnotationError(
            f"{file} does not tell of {len(missing)} of {len(names)} samples, as of {missing[0]}"
        )
    table = pd.DataFrame([told[name] for name in names], columns=["half", "difficulty"])
    table["share"], table["right"] = samples.share, samples.correct
    groups = {str(half): own for half, own in table.groupby("half")}
    rows = {half: (own, own["difficulty"]) for half, own in groups.items()}
    # Of a later half all need more than of those before.
    rows["all"] = table, table.groupby(["half", "difficulty"]).ngroup()
    lines = [
        {
            "half": half,
            "samples": len(own),
            "right, %": with_part(
                spelled(100 * own["right"].mean(), math.nan, ".1f"), own["right"].count(), len(own)
            ),
            "share, %": spelled(100 * own["share"].mean(), 100 * own["share"].std(ddof=0), ".1f"),
            "correlation of share and need": _told(spearman(own["share"], np.asarray(need))),
        }
        for half, (own, need) in rows.items()
    ]
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def _told(correlation: float | None) -> str:
    return "none" if correlation is None else f"{correlation:.2f}"
