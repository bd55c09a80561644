"""The tool that draws a video while it plays, with the network that comes along."""

import json
import re

import pytest
from command_lines import tool_of

from vared_mm.datasets.motion_clips import CLASSES, render_clip, write_video
from vared_mm.infer.frame_files import frames


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Calls a tool from an empty folder, without a config and a checkpoint."""

    def call(name, *words):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, words)])
        tool_of(name).main()

    monkeypatch.chdir(tmp_path)
    return call


def test_the_network_that_comes_along_knows_motions_and_live_draws_them(tmp_path, tool, capsys):
    write_video(tmp_path / "grow.mp4", render_clip("grow", [9, 9])[0])
    write_video(tmp_path / "left.mp4", render_clip("move_left", [9, 9])[0])
    tool("infer", "grow.mp4", "left.mp4", "--json", "infer.json")
    rows = json.loads((tmp_path / "infer.json").read_text())
    assert [CLASSES[row["label"]] for row in rows] == ["grow", "move_left"]
    assert "move_left" in capsys.readouterr().out
    tool("live", "grow.mp4", "--every", "4", "--out", "drawn.mp4", "--json", "live.json")
    rows = json.loads((tmp_path / "live.json").read_text())
    assert [row["frame"] for row in rows] == [16, 20, 24]
    assert {row["name"] for row in rows} == {"grow"}
    assert all(0.2 < row["share"] < 0.6 and 0.09 < row["gmacs"] < 0.14 for row in rows)
    assert rows[0]["seconds"] == pytest.approx(16 / 12)
    assert len(list(frames(tmp_path / "drawn.mp4"))) == 24
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if " s  grow " in line]
    assert first.split()[0] == "1.3"
    assert lines[-1].startswith("grow.mp4 ended: 3 clips, ")


def with_its_end_lost(path, part):
    """A file of 24 frames with zeros in place of the last part of them."""
    write_video(path, render_clip("grow", [9, 9])[0])
    content = path.read_bytes()
    start, end = content.find(b"mdat") + 4, content.find(b"moov") - 4
    begin = end - round((end - start) * part)
    path.write_bytes(content[:begin] + bytes(end - begin) + content[end:])


def test_a_video_that_ends_too_early_is_told_at_its_end(tmp_path, tool, capsys):
    with_its_end_lost(tmp_path / "a.mp4", 0.05)
    tool("live", "a.mp4", "--out", "drawn.mp4")
    assert re.search(r"a\.mp4 is cut or broken: 2\d of 24 frames can", capsys.readouterr().out)
    with_its_end_lost(tmp_path / "a.mp4", 0.25)
    with pytest.raises(SystemExit, match=r"a\.mp4 is cut or broken: \d\d of 24 frames can be dec"):
        tool("live", "a.mp4", "--out", "again.mp4", "--json", "live.json")
    # What could be seen is there all the same.
    assert 16 <= len(list(frames(tmp_path / "again.mp4"))) < 22
    assert json.loads((tmp_path / "live.json").read_text())[0]["frame"] == 16
    with_its_end_lost(tmp_path / "a.mp4", 0.7)
    with pytest.raises(SystemExit, match=r"is cut or broken: \d of 24 frames can be decoded"):
        tool("live", "a.mp4", "--out", "short.mp4", "--json", "live.json")
    assert json.loads((tmp_path / "live.json").read_text())[0]["frame"] == 16, "of before"


def test_the_rows_are_written_also_where_the_video_cannot_be(tmp_path, tool, monkeypatch):
    write_video(tmp_path / "a.mp4", render_clip("grow", [9, 9])[0])
    monkeypatch.setattr("vared_mm.datasets.mp4.frames_in", lambda name: 1)
    with pytest.raises(SystemExit, match=r"1 of 24 frames are in it; is the disk full\?"):
        tool("live", "a.mp4", "--out", "drawn.mp4", "--json", "live.json")
    assert len(json.loads((tmp_path / "live.json").read_text())) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.mp4", "--checkpoint", "a.pth"], "--config and --checkpoint belong together"),
        (["a.mp4", "--every", "0"], "wanted a whole number from 1 on; came '0'"),
        (["a.mp4", "--out", "b.mp4", "--serve"], "not allowed with argument --out"),
        (["a.mp4", "--out", "b.gif"], "b.gif would hold MPEG-4, which its format does not take"),
        (["a.mp4", "--out", "a.mp4"], "a.mp4 would be replaced, which is given to be read"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(tool, capsys, words, told):
    with pytest.raises(SystemExit):
        tool("live", *words)
    assert told in " ".join(capsys.readouterr().err.split())


def test_what_the_network_that_comes_along_computes_is_drawn_without_its_clips(
    tmp_path, tool, capsys
):
    tool("visualize", "--only", "heatmap,strips,features")
    drawn = {file.name for file in (tmp_path / "work_dirs" / "pictures").iterdir()}
    assert drawn == {"heatmap.png", "heatmap_dark.png"}
    assert "Left out strips, features: the data that" in capsys.readouterr().out
