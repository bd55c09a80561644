"""The generated scenes: labels tell what is drawn where, the seed decides, sets are whole."""

import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vared_mm.datasets import scenes
from vared_mm.datasets.once import write_image
from vared_mm.datasets.scenes import CLASSES, SHAPES, ScenesConfig, draw_scene, make_scenes

ROOT = Path(__file__).parent.parent
SMALL = ScenesConfig(train=3, val=2, size=32, most=2, seed=5)


@pytest.mark.parametrize(
    ("name", "share"),
    # Of the square [-1, 1]²: π/4; 1.6²/4; base 1.6 by height 1.6 halved, /4; 0.7·π/4.
    [("disc", 0.785), ("square", 0.64), ("triangle", 0.32), ("ring", 0.550)],
)
def test_each_shape_has_the_area_of_its_name(name, share):
    y, x = np.mgrid[-1:1:801j, -1:1:801j]
    assert SHAPES[name](x, y).mean() == pytest.approx(share, abs=0.005)


def test_labels_cover_what_is_drawn_and_nothing_else(monkeypatch):
    with_shapes, labels = draw_scene(7, 64, 4)
    monkeypatch.setattr(scenes, "SHAPES", {name: lambda x, y: x > 99 for name in SHAPES})
    ground, nothing = draw_scene(7, 64, 4)
    assert not nothing.any()
    differs = (with_shapes != ground).any(axis=2)
    assert not differs[labels == 0].any()
    assert differs[labels > 0].mean() > 0.95
    assert 0.02 < (labels > 0).mean() < 0.9


def test_the_last_shape_hides_the_others(monkeypatch):
    monkeypatch.setattr(scenes, "SHAPES", {name: lambda x, y: x < 99 for name in SHAPES})
    for seed in range(5):
        assert len(np.unique(draw_scene(seed, 32, 5)[1])) == 1


def test_every_class_is_met_and_no_picture_is_empty():
    pictures = [draw_scene([0, 0, i], 48, 4)[1] for i in range(40)]
    assert set(np.unique(pictures)) == set(range(len(CLASSES)))
    assert all(labels.any() for labels in pictures)


def test_the_seed_decides_every_pixel():
    one, again, other = (draw_scene(seed, 48) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, again))
    assert np.abs(one[0].astype(int) - other[0]).mean() > 10


def test_the_files_hold_pictures_and_their_labels(tmp_path):
    out = make_scenes(tmp_path / "set", SMALL)
    counts = {split: sorted(p.name for p in (out / split).iterdir()) for split in ("train", "val")}
    assert counts["val"] == ["0000.jpg", "0000.png", "0001.jpg", "0001.png"]
    assert len(counts["train"]) == 6
    image, labels = draw_scene([5, 1, 1], 32, 2)
    stored = cv2.imread(str(out / "val/0001.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, labels)
    picture = cv2.imread(str(out / "val/0001.jpg"))[..., ::-1].astype(int)
    assert np.abs(picture - image).mean() < 12


def test_a_set_made_with_other_values_is_not_taken_for_the_one_asked_for(tmp_path):
    make_scenes(tmp_path / "set", SMALL)
    with pytest.raises(FileExistsError, match=r"'size': 32.*'size': 96"):
        make_scenes(tmp_path / "set")


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert make_scenes(tmp_path / "set", SMALL).joinpath("scenes.json").is_file()


def test_a_picture_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"0000\.jpg cannot be written"):
        write_image(tmp_path / "file" / "0000.jpg", np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("name", ["train", "val", "size", "most", "seed"])
def test_a_set_that_cannot_be_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=-1 has to be at least"):
        ScenesConfig(**{name: -1})


def test_the_command_writes_the_set_and_prints_where(tmp_path, monkeypatch, capsys):
    options = ["--train", "2", "--val", "1", "--size", "32"]
    monkeypatch.setattr(sys, "argv", ["make_scenes.py", str(tmp_path / "set"), *options])
    runpy.run_path(str(ROOT / "tools" / "make_scenes.py"), run_name="__main__")
    assert capsys.readouterr().out.strip() == str(tmp_path / "set")
    assert len(list((tmp_path / "set").rglob("*.jpg"))) == 3
