"""mmengine takes data sets without samples, and classes that are a string, for what they are not.

Of the first it tells "need at least one array to concatenate", or nothing while a training runs
through its epochs without a step; the second become a class for each letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .after_import import after_import
from .cure import Cure, installed_source

RUNNER, PACKED = "mmengine.runner.runner", "mmengine.dataset.base_dataset"
TELLING = ("ann_file", "data_root", "data_prefix", "img_suffix", "indices")


def check_what_is_built(module: ModuleType) -> None:
    """Lets `Runner.build_dataloader` name a data set that is none."""
    runner, build = module.Runner, module.Runner.build_dataloader

    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            loader = build(dataloader, *args, **kwargs)
        except ValueError as error:
            # numpy's words, where a data set packs its samples.
            if "need at least one array" in str(error):
                raise ValueError(empty(dataloader)) from error
            raise
        refuse_string(getattr(loader.dataset, "metainfo", {}).get("classes"))
        refuse_without_batch(loader, dataloader)
        return loader

    runner.build_dataloader = staticmethod(build_dataloader)


def refuse_string(classes: Any) -> None:
    """mmengine reads classes from a file whose name they are; what is left is no file."""
    if isinstance(classes, str):
        raise ValueError(
            f"classes is the string {classes!r}, whose letters would be the classes, and no file; "
            f"wanted a list of names, a single one as ({classes!r},)"
        )


def refuse_without_batch(loader: Any, settings: Any) -> None:
    samples = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
    if samples == 0:
        raise ValueError(empty(settings))
    # Samplers that never end fill a batch all the same.
    if samples and type(loader.sampler).__name__ == "DefaultSampler" and not len(loader):
        raise ValueError(
            f"{samples} samples make no batch of {loader.batch_size}, and drop_last leaves out "
            "what is not whole; take a smaller batch_size or no drop_last for "
            f"{data_set_named(settings)}"
        )


def empty(settings: Any) -> str:
    return f"{data_set_named(settings)} is empty; see ann_file and data_prefix of the config"


def data_set_named(settings: Any) -> str:
    """The innermost data set of a data loader's settings, with what tells where it looks."""
    found = settings.get("dataset") if isinstance(settings, Mapping) else None
    while isinstance(found, Mapping) and isinstance(found.get("dataset"), Mapping):
        found = found["dataset"]
    if not isinstance(found, Mapping):
        return "the data set"
    told = ", ".join(f"{name}={found[name]!r}" for name in TELLING if found.get(name))
    return f"the {found.get('type', 'data set')}{f' of {told}' if told else ''}"


CURE = Cure(
    name="data-sets",
    reason="mmengine does not say that a data set is empty or makes no batch, and takes a string "
    "for a list of classes",
    # Samples are packed without looking whether there are any.
    is_needed=lambda: "data_bytes = np.concatenate(data_list)" in installed_source(PACKED),
    apply=lambda: after_import(RUNNER.__eq__, check_what_is_built),
)
