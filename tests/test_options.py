"""Options of command lines."""

from pathlib import Path

import pytest

from vared_mm.files import new_file
from vared_mm.options import Parser, run_parser


def test_a_file_whose_name_begins_with_a_dash_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-h0.mp4").write_text("")
    parser = Parser("")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--json")
    found = parser.parse_args(["-h0.mp4", "--json", "a"])
    assert (found.files, found.json) == (["./-h0.mp4"], "a")


def test_a_file_to_write_is_none_that_is_given_to_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to("clips.csv")
    parser = Parser("")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--format", choices=["csv"])
    parser.add_argument("--out", type=new_file)
    found = parser.parse_args(["a.csv", "clips.csv", "--format", "csv", "--out", "csv"])
    assert found.out == Path("csv")
    with pytest.raises(SystemExit):
        parser.parse_args(["a.csv", "clips.csv", "--out", "link.csv"])
    assert "link.csv would be replaced, which is given to be read" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "value"), [
    ("/my  data/run (2) b/a.pth", "/my  data/run (2) b/a.pth"), ("'a b'", "a b"),
    ("my clips/a b, my clips/c", ["my clips/a b", "my clips/c"]),
    ("[ ( 1, 2.5 ) , [ my clips, True ] , 'd e' ]", [(1, 2.5), ["my clips", True], "d e"]),
    (" 3 ", 3), ("-1e-3", -0.001), ("false", False), ("None", None), ("(4,)", (4,)), ("a=b", "a=b"),
])  # fmt: skip
def test_settings_keep_the_blanks_within_texts_alone(text, value):
    parser = run_parser("")
    found = parser.parse_args(["net.py", "--cfg-options", f"some.key={text}", "more=1"])
    assert found.cfg_options == {"some.key": value, "more": 1}


@pytest.mark.parametrize(("text", "value"), [
    ("{'search_space': 3, 'axes': ('time',)}", {"search_space": 3, "axes": ("time",)}),
    ("[dict(type='A b', c=dict(d=None)), dict()]", [{"type": "A b", "c": {"d": None}}, {}]),
    (r"layer\d{2}", r"layer\d{2}"), ("{1}", "{1}"), ("[dict(a=b)]", ["dict(a=b)"]),
    ("my dict(1)/a.pth", "my dict(1)/a.pth"),
])  # fmt: skip
def test_dicts_are_written_as_in_a_config_and_texts_that_look_so_stay(text, value):
    found = run_parser("").parse_args(["net.py", "--cfg-options", f"some.key={text}"])
    assert found.cfg_options == {"some.key": value}


@pytest.mark.parametrize("name", ["a, b", "(1)", "it's 'a'"])
def test_a_file_that_is_there_is_one_text_whatever_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    found = run_parser("").parse_args(["net.py", "--cfg-options", f"load_from={name}", "a=1,2"])
    assert found.cfg_options == {"load_from": name, "a": [1, 2]}


@pytest.mark.parametrize("text", ["steps", "steps=(1,2", "steps=a(1,2)"])
def test_what_is_no_setting_is_refused_with_usage(text, capsys):
    with pytest.raises(SystemExit):
        run_parser("").parse_args(["net.py", "--cfg-options", "a=1", text])
    told = f"error: argument --cfg-options: wanted KEY=VALUE ...; came 'a=1 {text}'\n"
    assert capsys.readouterr().err.endswith(told)


def test_two_outputs_have_a_file_each(tmp_path, capsys):
    parser = Parser("")
    for name in ("--out", "--json"):
        parser.add_argument(name, type=new_file)
    both = str(tmp_path / "both")
    with pytest.raises(SystemExit):
        parser.parse_args(["--out", both, "--json", both])
    assert "both is to be written twice; name a file for each" in capsys.readouterr().err
    parser.parse_args(["--out", both, "--json", f"{both}.json"])
