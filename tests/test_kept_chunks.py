"""Work that is done is kept whole, and only what nobody uses is removed."""

import pytest

from vared_mm.report.kept_chunks import in_use, read_whole, remove_others, write_whole


@pytest.mark.parametrize("damage", [
    lambda held: b"", lambda held: held[:-1], lambda held: held[:20], lambda held: held + b"x",
    lambda held: held.replace(b"work", b"worm"),
])  # fmt: skip
def test_what_is_not_as_it_was_written_is_none(tmp_path, damage):
    file = tmp_path / "1.pt"
    assert read_whole(file) is None
    write_whole(file, b"much work")
    assert read_whole(file) == b"much work"
    file.write_bytes(damage(file.read_bytes()))
    assert read_whole(file) is None


def test_folders_in_use_stay_and_others_go(tmp_path):
    mine, used, left = (tmp_path / name for name in ("mine", "used", "left"))
    for folder in (mine, used, left):
        with in_use(folder):
            write_whole(folder / "1.pt", b"work")
    with in_use(used), in_use(used):
        remove_others(mine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "used"]
    remove_others(mine)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
