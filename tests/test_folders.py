"""Of a folder the files that somebody put there, through links, once."""

from pathlib import Path

import pytest

from vared_mm.datasets.folders import files_below


def test_each_folder_is_visited_once_and_under_its_own_name(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "b.txt").touch()
    (tmp_path / "a.txt").touch()
    (tmp_path / "deep" / "up").symlink_to("..")
    (tmp_path / "again").symlink_to("deep")
    (tmp_path / "self").symlink_to("self")
    assert list(files_below(tmp_path)) == [Path("a.txt"), Path("self"), Path("deep/er/b.txt")]


def test_what_stands_behind_a_link_alone_is_found(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.txt").touch()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "here").symlink_to(tmp_path / "disk")
    assert list(files_below(tmp_path / "set")) == [Path("here/a.txt")]


def test_what_systems_add_is_left_out(tmp_path):
    for name in ("__MACOSX", "@eaDir", "seen"):
        (tmp_path / name).mkdir()
        for file in ("a.txt", "._a.txt", ".DS_Store", "Thumbs.db"):
            (tmp_path / name / file).touch()
    assert list(files_below(tmp_path)) == [Path("seen/a.txt")]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        list(files_below(tmp_path / "nowhere"))
