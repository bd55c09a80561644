"""Lists and tables are read whichever program wrote them, and what is none is named."""

import pytest

from vared_mm.datasets.tables import AnnotationError, in_order, read_csv, read_lines, records

ROWS = [{"file": "a.mp4", "label": "walk"}, {"file": "b c.mp4", "label": "run, fast"}]
PLAIN = 'file,label\na.mp4,walk\nb c.mp4,"run, fast"\n'


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode(),
        b"\n,\n file , label\n a.mp4\t,walk \n\n,,\nb c.mp4 ,\"run, fast\",\n",
        b'file, label\na.mp4, walk\nb c.mp4, "run, fast"\n',
        b"file;label\na.mp4;walk\nb c.mp4;run, fast\n",
        b"sep=;\r\nfile;label\r\na.mp4;walk\r\nb c.mp4;run, fast\r\n",
        b"file\tlabel\na.mp4\twalk\nb c.mp4\trun, fast",
    ],
)  # fmt: skip
def test_a_table_reads_alike_from_every_program(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    assert [row for _, row in read_csv(tmp_path / "t.csv", ("file", "label"))] == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na,walk\nb,café\n".encode("latin-1"), "is no text in UTF-8"),
        (b"file,label\na,wa\0lk\n", "holds NUL bytes"),
        (b'file,label\na,walk\n"b,run\nc,run\n', "line 3 is no row of a csv: .*quote"),
        (b'file,label\na,walk\n"b,run\nc",run\n', "line 3 is no row of a csv: .*more than one"),
        (b'file,label\na,"' + b"x" * 200_000, "line 2 is no row of a csv: field larger"),
        (b"file,label\na,run, fast\n", "line 2 has 3 values for 2 columns"),
        (b"file,label\na,walk\nb,\n", "line 3 has no label"),
        (b"file,class\na,walk\n", "has no label; wanted .*; there are .*'class'"),
        (b"file,label,label\na,walk,run\n", "has the column 'label' twice"),
        (b"file,label\n", "has no row below its header"),
        (b"", "has no file, label"),
    ],
)
def test_what_is_no_such_table_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(AnnotationError, match=rf"t\.csv.* ?{message}"):
        read_csv(tmp_path / "t.csv", ("file", "label"), ("label",))


def test_lines_are_counted_as_an_editor_does(tmp_path):
    (tmp_path / "t.csv").write_text("a,1\n\nb,2\n")
    assert list(records(tmp_path / "t.csv")) == [(1, ["a", "1"]), (3, ["b", "2"])]


def test_a_list_has_no_blank_lines(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbfa \r\n\r\n b\r\n")
    assert read_lines(tmp_path / "l.txt") == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["10", "2", "0", "2"], ["0", "2", "10"]),
        (["07", "10", "-1"], ["-1", "07", "10"]),
        (["b", "10", "2"], ["10", "2", "b"]),
        ([], []),
    ],
)
def test_numbers_stand_in_the_order_of_their_values_and_names_in_that_of_letters(names, wanted):
    assert in_order(names) == wanted
