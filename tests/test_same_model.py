"""Which results are seeds of one model, and which are of one evaluation."""

from dataclasses import replace

import pytest
from boards import (
    CHOICES,
    HOW,
    SPEED,
    STATIC,
    column,
    counts,
    inputs,
    result,
    texts,
)

from vared_mm.report.leaderboard import free_board, paper_board
from vared_mm.report.paper_tables import TABLES


def test_checkpoints_of_other_names_are_rows_of_their_own():
    two = inputs(result("a", checkpoint="epoch_1.pth"), result("a", checkpoint="epoch_2.pth"))
    assert column(free_board(two), "checkpoint") == ["epoch_1", "epoch_2"]


SEED = dict(checkpoint="seed2/last.pth", metrics={"acc/clip1": 0.75})
APART = {
    "epochs": (dict(checkpoint="epoch_1.pth"), "epoch_1"),
    "options": (dict(options={"a": 1}), "a=1"),
    "configs": (dict(config="other/net.py"), "other/net.py"),
    "contents of configs": (dict(settings="fedcba9876"), "fedcba98"),
    "trainings": (dict(training={"hook.target": 0.9}), "hook.target=0.9"),
}


@pytest.mark.parametrize(("change", "told"), APART.values(), ids=APART)
def test_what_are_no_seeds_of_one_model_stand_apart(change, told):
    one = result(STATIC, settings="abcdef9876" if "settings" in change else None)
    one = replace(one, training={"hook.target": 0.2} if "training" in change else None)
    both = inputs(one, replace(one, **{**SEED, **change}))
    assert counts(free_board(both)) == ["1", "1"]
    assert free_board(both).texts.map(lambda text: told in text).any(axis=None)
    board = paper_board(TABLES[2], both)
    assert counts(board) == ["1", "1"]
    assert any(told in text for text in column(board, "row"))
    seeds = inputs(one, replace(one, **SEED))
    assert counts(free_board(seeds)) == counts(paper_board(TABLES[2], seeds)) == ["2"]


def test_one_evaluation_counts_once_however_often_it_is_there():
    one = result(STATIC, weights="cafe", speed={**SPEED, "conditions": HOW})
    later = replace(one, checkpoint="copy/best.pth", created="2026-02-02T03:04:05+00:00",
                    metrics={"acc/clip1": 0.75})  # fmt: skip
    for again in (one, later):
        for board in (free_board(inputs(again, one)), paper_board(TABLES[2], inputs(one, again))):
            assert counts(board) == ["1"]
            assert sum("Counted once, as evaluated again" in note for note in board.notes) == 1
    assert texts(free_board(inputs(later, one)), STATIC)["acc/clip1"] == "0.75"
    # Without digests it is the file and its numbers.
    copied = replace(one, weights=None)
    assert counts(free_board(inputs(copied, copied))) == ["1"]
    other = replace(one, weights="beef")
    assert counts(free_board(inputs(one, other))) == ["2"]
    # Of former versions no training is told, and later ones tell that of the same weights.
    trained = [replace(one, training={"lr": 1}), replace(other, training={"lr": 2})]
    assert counts(free_board(inputs(one, other, *trained))) == ["1", "1"]


@pytest.mark.parametrize("device", ["cpu", "a GPU"])
def test_what_a_former_record_of_an_evaluation_alone_tells_stands_with_the_last(device):
    full = result(STATIC, weights="cafe", speed={**SPEED, "conditions": HOW}, choices=CHOICES)
    bare = replace(full, created="2026-02-02T03:04:05+00:00", speed=None, choices=None)
    row = texts(free_board(inputs(replace(bare, device=device), full)), STATIC)
    assert row["policies"] == str(CHOICES["policies"])
    # Of another machine it is no speed of this evaluation.
    assert row["dynamic/s"] == ("10.0 (9.0 to 11.0)" if device == "cpu" else "–")
