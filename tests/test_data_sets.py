"""Data sets of which nothing, or no whole batch, can be taken are named by whoever builds them."""

import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner

import vared_mm  # noqa: F401  applies the cures


@DATASETS.register_module()
class Counted(BaseDataset):
    def load_data_list(self):
        return [dict(number=i) for i in range(int(self.ann_file or 0))]


def loader(samples, sampler="DefaultSampler", wrapper=None, batch_size=2, **settings):
    dataset = dict(type="Counted", ann_file=str(samples), serialize_data=samples < 100, **settings)
    if wrapper:
        dataset = dict(type=wrapper, dataset=dataset, times=1)
    return dict(
        dataset=dataset, sampler=dict(type=sampler), batch_size=batch_size, num_workers=0,
        drop_last=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        loader(0),
        loader(0, "InfiniteSampler"),
        loader(0, wrapper="RepeatDataset"),
        loader(100, indices=0),
    ],
    ids=["packed", "for ever", "repeated", "no indices"],
)
def test_a_data_set_without_samples_is_named(settings):
    message = r"the Counted of ann_file='\d+' is empty; see ann_file and data_prefix"
    with pytest.raises(ValueError, match=message):
        Runner.build_dataloader(settings)


def test_samples_that_make_no_batch_are_told():
    with pytest.raises(ValueError, match="3 samples make no batch of 4, and drop_last leaves out"):
        Runner.build_dataloader(loader(3, batch_size=4))
    Runner.build_dataloader(loader(3, "InfiniteSampler", batch_size=4))
    assert len(Runner.build_dataloader(loader(4, batch_size=4))) == 1


def test_a_string_is_no_list_of_classes(tmp_path):
    with pytest.raises(ValueError, match=r"classes is the string 'person', .*\('person',\)"):
        Runner.build_dataloader(loader(4, metainfo=dict(classes="person")))
    names = tmp_path / "classes.txt"
    names.write_text("person\ndog\n")
    built = Runner.build_dataloader(loader(4, metainfo=dict(classes=str(names))))
    assert built.dataset.metainfo["classes"] == ["person", "dog"]


def test_a_fault_of_another_kind_stays_as_it_is():
    with pytest.raises(ValueError, match="invalid literal"):
        Runner.build_dataloader(loader(1) | dict(dataset=dict(type="Counted", ann_file="many")))
