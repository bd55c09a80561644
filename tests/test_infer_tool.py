"""tools/infer.py: what it refuses before the work, and what it keeps where something fails."""

import json
import sys
from types import SimpleNamespace

import pytest
from command_lines import tool_of

from vared_mm.infer import network
from vared_mm.infer.rows import rows_of

INFER = tool_of("infer")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the tool in a folder with a model of two classes that answers without being asked."""
    monkeypatch.chdir(tmp_path)
    for name in ("net.py", "net.pth", "a.mp4"):
        (tmp_path / name).write_text("")
    head = SimpleNamespace(num_classes=2)
    model = SimpleNamespace(cls_head=head, dataset_meta={}, to=lambda device: model)
    clip = dict(label=1, score=0.75, gmacs=1.0, share=1.0)
    row = dict(file="a.mp4", label=1, score=0.75, gmacs=1.0, clips=[clip])
    rows = [row, dict(file="b.mp4", error="does not exist")]
    monkeypatch.setattr(network, "build_model", lambda config, checkpoint: model)
    monkeypatch.setattr(network, "channels_last", lambda model: None)
    task = SimpleNamespace(infer=lambda model, config, files, out: rows)
    monkeypatch.setattr(INFER, "import_module", lambda name: task)

    def call(*words):
        base = ["infer.py", "--config", "net.py", "--checkpoint", "net.pth"]
        monkeypatch.setattr(sys, "argv", [*base, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            INFER.main()
        return ended.value.code

    return call


def test_rows_are_printed_and_written_and_the_code_tells_of_a_fault(run, tmp_path, capsys):
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbf[k1]\r\n[/k2]\r\n\r\n")
    assert run("a.mp4", "--json", "new/rows.json", "--classes", "names.txt") == 1
    printed = capsys.readouterr().out
    assert "[/k2]" in printed
    assert printed.endswith("\nb.mp4: does not exist\n")
    rows = json.loads((tmp_path / "new/rows.json").read_text())
    assert [row["file"] for row in rows] == ["a.mp4", "b.mp4"]


def test_a_fault_that_names_its_file_is_told_as_it_is(capsys):
    told = "a/b.mp4 is cut or broken: 2 of 9 frames can be decoded"
    INFER.show([dict(file="a/b.mp4", error=told), dict(file="cut", error="it is cut")], [])
    assert capsys.readouterr().out == f"{told}\ncut: it is cut\n"


def test_an_interruption_at_the_second_file_keeps_what_the_first_was_answered(
    run, tmp_path, monkeypatch, capsys
):
    def answer(file):
        if file.name == "b.mp4":
            raise KeyboardInterrupt
        return dict(label=1, score=0.75, gmacs=1.0)

    task = SimpleNamespace(infer=lambda model, config, files, out: rows_of(files, answer))
    monkeypatch.setattr(INFER, "import_module", lambda name: task)
    assert run("a.mp4", "b.mp4", "c.mp4", "--json", "rows.json") == 130
    said = capsys.readouterr()
    assert "0.750" in said.out
    told = "not answered, as the work was interrupted"
    assert said.out.endswith(f"\nb.mp4: {told}\nc.mp4: {told}\n")
    assert said.err.endswith("interrupted\n")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row.get("score") for row in rows] == [0.75, None, None]
    assert [row.get("error") for row in rows] == [None, told, told]


def test_rows_that_cannot_be_written_are_printed(run, tmp_path, monkeypatch, capsys):
    def full(file, rows):
        raise OSError(f"{file} cannot be written: No space left on device")

    monkeypatch.setattr(INFER, "write_json", full)
    told = "error: rows.json cannot be written: No space left on device"
    assert run("a.mp4", "--json", "rows.json") == told
    assert "0.750" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--json", "folder"], "folder is a folder"),
        (["--json", "a.mp4/rows.json"], "a.mp4 is no folder"),
        (["--json", "a.mp4"], "a.mp4 would be replaced, which is given to be read"),
        (["--out", "net.py"], "net.py is no folder"),
        (["--classes", "none.txt"], "there is no file none.txt"),
        (["--checkpoint", "none.pth"], "there is no file none.pth"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(run, tmp_path, monkeypatch, capsys, words, told):
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(network, "build_model", lambda *given: pytest.fail("it went on"))
    assert run("a.mp4", *words) == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("content", "told"),
    [("a\nb\nc\n", "names.txt names 3 classes, and the model has 2"), ("\n", "holds no name")],
)
def test_names_that_do_not_fit_are_refused(run, tmp_path, content, told):
    (tmp_path / "names.txt").write_text(content)
    assert told in run("a.mp4", "--classes", "names.txt")


def test_a_detector_of_pictures_is_named():
    with pytest.raises(ValueError, match="SimpleNamespace is none of them; .* objects in pictures"):
        network.task_of(SimpleNamespace(bbox_head=object()))
