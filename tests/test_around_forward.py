"""What watches a training's passes: once each."""

import pytest
import toy
from mmengine.runner import Runner

import vared_mm  # noqa: F401

HOOKS = {
    "EfficiencyLossHook": dict(dynamic={}),
    "TeachGatesHook": dict(dynamic={}),
    "ThresholdLossHook": dict(dynamic={}),
    "PruneWeightsHook": dict(share=0.5),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_a_second_hook_that_would_undo_the_first_is_refused(tmp_path, kind):
    settings = dict(HOOKS[kind])
    dynamic = settings.pop("dynamic", None)
    hooks = [dict(type=kind, **settings)] * 2
    runner = Runner(**toy.runner_settings(tmp_path, dynamic, hooks))
    with pytest.raises(ValueError, match=f"custom_hooks has {kind} 2 times, .* leave one"):
        runner.train()
