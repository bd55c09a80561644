"""Data sets within others, and types by any of their names."""

import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from vared_mm.settings import data_of, innermost, kind, metainfo_of, pipeline_of

INNER = dict(type=BaseDataset, pipeline=[dict(type="A")], metainfo=dict(classes=["a", "b"]))
WITHIN = {
    "alone": INNER,
    "repeated": dict(type="RepeatDataset", times=1, dataset=INNER),
    "beside another": dict(type="ConcatDataset", datasets=[INNER, {**INNER, "times": 2}]),
    "deep": dict(
        type="A", dataset=dict(type="ConcatDataset", datasets=[dict(type="B", dataset=INNER)])
    ),
}


@pytest.mark.parametrize("dataset", WITHIN.values(), ids=WITHIN)
def test_a_test_set_is_found_within_any_others(dataset):
    config = Config(dict(test_dataloader=dict(dataset=dataset)))
    assert innermost(data_of(config)) == INNER
    assert pipeline_of(config) == [dict(type="A")]
    assert metainfo_of(config)["classes"] == ["a", "b"]


def test_a_wrapper_s_pipeline_replaces_the_one_within():
    outer = dict(type="VaRedVideoGuard", pipeline=[dict(type="B")], dataset=INNER)
    config = Config(dict(test_dataloader=dict(dataset=outer)))
    assert pipeline_of(config) == [dict(type="B")]


def test_parts_with_other_pipelines_are_told():
    parts = [INNER, {**INNER, "pipeline": [dict(type="B")]}]
    config = Config(dict(test_dataloader=dict(dataset=dict(type="ConcatDataset", datasets=parts))))
    with pytest.warns(UserWarning, match="that of the first is taken"):
        assert pipeline_of(config) == [dict(type="A")]


def test_a_built_set_is_found_too_even_an_empty_one():
    held = BaseDataset(lazy_init=True)
    outer = DATASETS.build(dict(type="RepeatDataset", times=1, dataset=held, lazy_init=True))
    assert innermost(outer) is held


def test_classes_in_a_file_and_those_of_the_type_are_found(tmp_path):
    (tmp_path / "names.txt").write_text("x\ny\n")
    named = {**INNER, "metainfo": dict(classes=str(tmp_path / "names.txt"))}
    config = Config(dict(test_dataloader=dict(dataset=named)))
    assert metainfo_of(config)["classes"] == ["x", "y"]

    own = type("Own", (BaseDataset,), dict(METAINFO=dict(classes=("c",))))
    config = Config(dict(test_dataloader=dict(dataset=dict(type=own, pipeline=[]))))
    assert metainfo_of(config)["classes"] == ("c",)


@pytest.mark.parametrize(
    "named", ["Load", "mmseg.Load", "mmseg.datasets.Load", type("Load", (), {})]
)
def test_a_type_has_one_name_under_any_scope(named):
    assert kind(dict(type=named)) == "Load"


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (dict(), "test_dataloader"),
        (dict(test_dataloader=None), "test_dataloader"),
        (dict(test_dataloader=dict(dataset=dict(type="A"))), "a test set with a pipeline"),
    ],
)
def test_a_config_without_test_set_or_pipeline_is_told(config, word):
    with pytest.raises(ValueError, match=word):
        pipeline_of(Config(config))
