"""Files are written whole, and lists of names read whichever editor wrote them."""

import pytest

from vared_mm.files import read_names


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
