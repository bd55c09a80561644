"""Files are whole or not there, and what stands in them is what was meant."""

import json
import os
from argparse import ArgumentTypeError

import pytest

from vared_mm.files import (
    half_written,
    new_file,
    new_folder,
    read_names,
    write_bytes,
    write_json,
    write_text,
)


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    target = tmp_path / "a" / "b.txt"
    write_text(target, "old")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["b.txt"]


def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "rows.json"
    target.write_text("old")

    def full(half, content):
        with half.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match=r"rows\.json cannot be written: No space left on device"):
        write_bytes(target, b"new content")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["rows.json"]


@pytest.mark.parametrize("where", ["", "file/rows.json"], ids=["a folder", "below a file"])
def test_a_place_where_no_file_can_be_is_named_and_nothing_stays(tmp_path, where):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "file").write_text("")
    target = tmp_path / "rows" / where
    with pytest.raises(OSError, match=f"{target} cannot be written"):
        write_bytes(target, b"1")
    assert os.listdir(tmp_path) == ["rows"]
    assert os.listdir(tmp_path / "rows") == ["file"]


def test_a_device_stays_one_and_a_link_too(tmp_path):
    write_bytes(os.devnull, b"1")
    assert not os.path.isfile(os.devnull)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_bytes(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"1"


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted(half):
        half.write_bytes(b"1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), half_written(tmp_path / "a.mp4") as half:
        interrupted(half)
    assert os.listdir(tmp_path) == []


def test_json_has_null_for_what_is_no_number_and_is_read_by_any_reader(tmp_path):
    write_json(
        tmp_path / "a", {"a": [float("nan"), 1.5], "b": (float("-inf"), {"c": float("inf")})}
    )
    assert json.loads((tmp_path / "a").read_text(), parse_constant=pytest.fail) == {
        "a": [None, 1.5],
        "b": [None, {"c": None}],
    }


def test_a_name_that_is_no_utf8_is_written_as_the_bytes_that_it_is(tmp_path):
    write_text(tmp_path / "a", os.fsdecode(b"cl\xe4p") + " ü")
    assert (tmp_path / "a").read_bytes() == b"cl\xe4p \xc3\xbc"


def test_places_for_results_are_looked_at_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    assert new_file(str(tmp_path / "new" / "rows.json")) == tmp_path / "new" / "rows.json"
    assert new_file(str(tmp_path / "file")) == tmp_path / "file"
    assert new_folder(str(tmp_path)) == tmp_path
    with pytest.raises(ArgumentTypeError, match="is a folder; wanted the name of a file"):
        new_file(str(tmp_path))
    for check in (new_file, new_folder):
        with pytest.raises(
            ArgumentTypeError, match="file/rows cannot be written: .*file is no fol"
        ):
            check(str(tmp_path / "file" / "rows"))
    with pytest.raises(ArgumentTypeError, match="file is no folder"):
        new_folder(str(tmp_path / "file"))


@pytest.mark.parametrize("content", [
    b"a\nb c\n", b"\xef\xbb\xbfa\r\nb c\r\n\r\n", b"a \r\tb c", b"a\nb c\n\n \n",
])  # fmt: skip
def test_names_are_read_whatever_the_editor_wrote(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_names(tmp_path / "classes.txt") == ["a", "b c"]


@pytest.mark.parametrize(("content", "message"), [
    (b"a\n\nc\n", r"line 2 of .*classes.txt is empty"),
    (b"\nb\n", r"line 1 of .*classes.txt is empty"),
    (b"\n\n", r"classes.txt holds no name"),
    ("a\nb\n".encode("utf-16"), r"classes.txt cannot be read as names in UTF-8"),
])  # fmt: skip
def test_lines_that_are_no_names_are_told(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path / "classes.txt")
