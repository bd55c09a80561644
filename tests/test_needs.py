"""What clips computed against what they are known to need, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from vared_mm.datasets.tables import AnnotationError
from vared_mm.report.needs import needs_table

NEEDS = """file,label,half,difficulty
val/a.mp4,0,motion,0.1
val/b.mp4,0,motion,0.9
val/c.mp4,1,shape,0.2
val/d.mp4,1,shape,0.3
"""
SAMPLES = SimpleNamespace(
    file=np.array([f"/data/val/{name}.mp4" for name in "dbca"]),
    share=np.array([0.9, 0.5, 0.7, 0.3]),
    correct=np.array([1.0, 1, 0, 1]),
)


def test_each_half_and_all_have_their_share_and_its_correlation_with_the_need(tmp_path):
    file = tmp_path / "needs.csv"
    file.write_text(NEEDS)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in needs_table(SAMPLES, file).splitlines()[2:]
    ]
    assert rows == [
        ["motion", "2", "100.0", "40.0 ± 10.0", "1.00"],
        ["shape", "2", "50.0", "80.0 ± 10.0", "1.00"],
        # By need a, b, c, d: so do the shares rise.
        ["all", "4", "75.0", "60.0 ± 22.4", "1.00"],
    ]


def test_what_is_right_of_a_part_of_the_samples_tells_of_how_many(tmp_path):
    file = tmp_path / "needs.csv"
    file.write_text(NEEDS)
    # Of d, b, c, a: nothing tells whether b and c are right.
    part = SimpleNamespace(**{**vars(SAMPLES), "correct": np.array([1.0, np.nan, np.nan, 0])})
    right = [line.split("|")[3].strip() for line in needs_table(part, file).splitlines()[2:]]
    assert right == ["0.0 (1 of 2)", "100.0 (1 of 2)", "50.0 (2 of 4)"]


def test_difficulties_may_have_any_size(tmp_path):
    file = tmp_path / "needs.csv"
    text = NEEDS.replace("0.9", "90").replace("0.2", "-4")
    file.write_text(text)
    assert needs_table(SAMPLES, file).splitlines()[-1].rstrip("| ").endswith("1.00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NEEDS.replace("val/d", "val/e"), "does not tell of 1 of 4 samples, as of val/d.mp4"),
        (NEEDS.replace("0.9", "hard"), "line 3 has the difficulty 'hard'; wanted a number"),
        ("file,label\n", "difficulty"),
    ],
)
def test_a_file_that_tells_no_need_is_refused(tmp_path, text, message):
    file = tmp_path / "needs.csv"
    file.write_text(text)
    with pytest.raises(AnnotationError, match=message):
        needs_table(SAMPLES, file)
