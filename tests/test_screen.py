"""Progress is a bar on a terminal and a few lines elsewhere; the screen has what a user needs."""

import logging
import sys
import warnings

from vared_mm import screen
from vared_mm.engine import ProgressBarHook
from vared_mm.screen import quiet, tracked


def test_a_pipe_gets_two_lines_and_no_bar(capsys):
    assert list(tracked(iter("abc"), 3, "reading")) == ["a", "b", "c"]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "reading: 3 to do\nreading: 3 of 3 done in 0 s\n"


def test_a_long_work_tells_in_between(capsys, monkeypatch):
    monkeypatch.setattr(screen, "EVERY", -1.0)
    list(tracked("ab", 2, "reading"))
    assert "reading: 1 of 2\nreading: 2 of 2\n" in capsys.readouterr().err


def test_what_tells_a_user_nothing_stands_in_the_log_file_alone(tmp_path, capsys):
    logger = logging.Logger("one")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.addHandler(logging.FileHandler(tmp_path / "log"))
    quiet(logger)
    for message in ("Config:\na = 1", '"FileClient" will be deprecated in future', "Epoch 1"):
        logger.warning(message)
    assert capsys.readouterr().out == "Epoch 1\n"
    assert (tmp_path / "log").read_text().splitlines()[::3] == ["Config:", "Epoch 1"]


def test_warnings_of_the_toolboxes_own_code_are_not_shown(recwarn):
    quiet(logging.getLogger("quiet"))
    warnings.warn("``build_loss`` would be deprecated soon", stacklevel=1)
    warnings.warn("of use", stacklevel=1)
    assert [str(one.message) for one in recwarn] == ["of use"]


def test_the_bar_of_a_training_stays_out_of_pipes(capsys):
    hook = ProgressBarHook()
    hook._start("train", 2)
    hook._step("loss 1.0")
    hook._stop()
    assert capsys.readouterr() == ("", "")
