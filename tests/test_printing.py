"""What command lines print."""

import os

import pytest
from rich.table import Table

from vared_mm.printing import console, visible

BYTES = os.fsdecode(b"cl\xe4p")


def test_texts_of_the_user_are_printed_letter_for_letter(capsys):
    table = Table("file", title="cfg [v2]/a.py")
    for text in ("My talk [dQw4w].mp4", "k [/x]", "12:dancer:57", "\x1b[31mred", BYTES, "跳舞"):
        table.add_row(text)
    console().print(table)
    console().print("[bold]a[/]", "b")
    printed = capsys.readouterr().out
    for text in ("cfg [v2]/a.py", "My talk [dQw4w].mp4", "k [/x]", "12:dancer:57", "跳舞"):
        assert text in printed
    for text in (r"\x1b[31mred", r"cl\udce4p", "[bold]a[/] b"):
        assert text in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\nb\tc\x07", r"a\nb\tc\x07"),
        ("ni\u200cdan 跳 é", "ni\u200cdan 跳 é"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
    ],
)
def test_what_would_steer_a_terminal_becomes_an_escape(text, wanted):
    assert visible(text) == wanted
