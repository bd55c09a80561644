"""The settings refuse nonsense when they are made, and say what would do."""

import dataclasses

import pytest

from vared_mm.method import DynamicConfig

REFUSED = {
    "search space 0": (dict(search_space=0), r"search_space is 0; wanted one of \[2, 3, 4\]"),
    "search space 5": (dict(search_space=5), r"search_space is 5; wanted one of \[2, 3, 4\]"),
    "search space as a fraction": (dict(search_space=2.0), "search_space is 2.0"),
    "bias as one number": (dict(gate_bias=0.8), "gate_bias=0.8 is no list"),
    "axes as a number": (dict(axes=5), "axes=5 or gate_bias"),
    "exclusion as a number": (dict(exclude=3), "exclude=3 is no list"),
    "no axis": (dict(axes=()), "axes is"),
    "unknown axis": (dict(axes=("space",)), "wanted some of"),
    "axis twice": (dict(axes=("time", "time")), "each once"),
    "unknown share": (dict(share="layer"), "wanted one of"),
    "even kernel": (dict(cheap_kernel=2), "wanted an odd number"),
    "no hidden unit": (dict(gate_hidden=0), "gate_hidden is 0"),
    "hidden units as a fraction": (dict(gate_hidden=8.0), "gate_hidden is 8.0"),
    "bias as a text": (dict(gate_bias="12"), "gate_bias has 0 numbers"),
    "bias that is no number": (dict(gate_bias=(float("nan"),)), "finite numbers"),
    "floor as a text": (dict(floor="a"), "between 0 and 1"),
    "leak that is no number": (dict(leak=float("nan")), "0 or more"),
    "leak without an end": (dict(leak=float("inf")), "0 or more"),
    "long bias": (dict(gate_bias=(1, 1, 1)), "gate_bias has 3 numbers; wanted 1 to 2"),
    "floor 0": (dict(floor=0), "between 0 and 1"),
    "negative leak": (dict(leak=-1), "0 or more"),
    "broken pattern": (dict(targets="layer("), "not a regular expression"),
    "block without a group": (dict(share="block"), r"\(\?P<block>...\)"),
}


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DynamicConfig(**settings)


def test_an_unknown_setting_names_the_one_that_was_meant():
    with pytest.raises(ValueError, match="no setting 'serch_space'; did you mean 'search_space'"):
        DynamicConfig.make({"serch_space": 3})


def test_settings_come_from_nothing_a_mapping_or_themselves_and_stay_as_they_are():
    assert DynamicConfig.make(None) == DynamicConfig()
    made = DynamicConfig.make({"axes": ["time"], "search_space": 3})
    assert made.axes == ("time",)
    assert DynamicConfig(exclude="conv1").exclude == ("conv1",)
    assert DynamicConfig(exclude=["conv1", "conv2"]).exclude == ("conv1", "conv2")
    assert DynamicConfig.make(made) is made
    assert DynamicConfig(gate_bias=[1, 0]).gate_start == (1.0, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.search_space = 2


def test_the_last_bias_is_repeated_for_every_further_choice():
    assert DynamicConfig(search_space=4, gate_bias=(0.8, 0.3)).gate_start == (0.8, 0.3, 0.3, 0.3)
