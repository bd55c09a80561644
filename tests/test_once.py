"""Generated data sets are made whole or not at all, and kept."""

import json

import pytest

from vared_mm.datasets.once import make_once

CONFIG = {"seed": 1}


def write(folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "one.txt").write_text("one")


def never(folder):
    raise AssertionError("a finished set is not made again")


def test_a_set_holds_what_was_written_and_what_it_was_made_with(tmp_path):
    out = make_once(tmp_path / "far" / "set", "small things", CONFIG, write)
    assert (out / "deep" / "one.txt").read_text() == "one"
    assert json.loads((out / "small_things.json").read_text()) == CONFIG


def test_a_second_call_finds_the_set_and_touches_nothing(tmp_path):
    out = make_once(tmp_path / "set", "things", CONFIG, write)
    (out / "deep" / "one.txt").write_text("mine")
    assert make_once(out, "things", CONFIG, never) == out
    assert (out / "deep" / "one.txt").read_text() == "mine"


def test_an_interrupted_run_leaves_nothing_and_the_next_one_is_whole(tmp_path):
    def fail(folder):
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(tmp_path / "set", "things", CONFIG, fail)
    assert list(tmp_path.iterdir()) == []
    assert (make_once(tmp_path / "set", "things", CONFIG, write) / "deep").is_dir()


def test_of_two_processes_that_make_one_set_the_later_takes_the_earlier_s(tmp_path):
    def overtaken(folder):
        make_once(tmp_path / "set", "things", CONFIG, write)
        (folder / "two.txt").write_text("two")

    out = make_once(tmp_path / "set", "things", CONFIG, overtaken)
    assert sorted(path.name for path in out.iterdir()) == ["deep", "things.json"]


def test_a_set_made_with_other_values_is_not_taken_for_the_one_asked_for(tmp_path):
    make_once(tmp_path / "set", "things", CONFIG, write)
    with pytest.raises(FileExistsError, match=r"made with .*'seed': 1.*asked for were .*'seed': 2"):
        make_once(tmp_path / "set", "things", {"seed": 2}, write)


def test_a_set_whose_file_of_settings_is_damaged_is_named(tmp_path):
    make_once(tmp_path / "set", "things", CONFIG, write)
    (tmp_path / "set" / "things.json").write_text("")
    with pytest.raises(FileExistsError, match=r"things.json is damaged"):
        make_once(tmp_path / "set", "things", CONFIG, never)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is no set of things: choose another folder"):
        make_once(tmp_path, "things", CONFIG, write)
    assert (tmp_path / "notes.txt").read_text() == "mine"
