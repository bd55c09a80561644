"""MMAction2's lists: an editor's mark is none of a name, and a line that is odd is named."""

import pytest

import vared_mm  # noqa: F401  applies the cures


def listed(file, kind, content, **settings):
    import mmaction.datasets

    file.write_bytes(content)
    made = getattr(mmaction.datasets, kind)(str(file), [], lazy_init=True, **settings)
    return made.load_data_list()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_mark_before_the_list_is_no_part_of_the_first_name(tmp_path, mark):
    videos = listed(tmp_path / "l.txt", "VideoDataset", mark + b"a.mp4 1\nb.mp4 0\n")
    assert [(one["filename"], one["label"]) for one in videos] == [("a.mp4", 1), ("b.mp4", 0)]
    folders = listed(tmp_path / "l.txt", "RawframeDataset", mark + b"a 8 1\n")
    assert [(one["frame_dir"], one["label"]) for one in folders] == [("a", 1)]
    assert listed(tmp_path / "l.txt", "VideoDataset", b"") == []


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("VideoDataset", b"a.mp4 1\nb.mp4  0\n", r"line 2 is 'b\.mp4  0'; wanted a path, the deli"),
        ("VideoDataset", b"a.mp4 1.0\n", r"line 1 is 'a\.mp4 1\.0'; .* label as a whole number"),
        ("VideoDataset", b"a b.mp4 1\n", r"line 1 is 'a b\.mp4 1'; .*too many values to unpack"),
        ("RawframeDataset", b"a 8 1\nb 8 1.0\n", r"line 2 is 'b 8 1\.0'; wanted a folder, its num"),
        ("RawframeDataset", b"a\n", r"line 1 is 'a'; .*out of range"),
        ("RawframeDataset", b"a 8 1 2\n", "line 1 is 'a 8 1 2'; wanted"),
    ],
)
def test_a_line_that_is_none_of_such_a_list_is_named(tmp_path, kind, content, message):
    with pytest.raises(ValueError, match=rf"l\.txt, {message}"):
        listed(tmp_path / "l.txt", kind, content)
