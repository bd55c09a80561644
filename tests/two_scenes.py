"""A segmentor with two pictures of 32 x 32 to test it on."""

from mmengine.config import Config

from vared_mm.compat import config_path
from vared_mm.datasets.scenes import ScenesConfig, make_scenes

SEGMENTOR = "segmentation/fcn/vared-fcn_r18w16-d8_1xb8-200_scenes-96x96.py"
# Each picture and its mirror image.
AUGMENTED = [
    dict(type="LoadImageFromFile"),
    dict(type="TestTimeAug", transforms=[
        [dict(type="RandomFlip", prob=p) for p in (0.0, 1.0)],
        [dict(type="LoadAnnotations")], [dict(type="PackSegInputs")],
    ]),
]  # fmt: skip


def scenes(folder, **options):
    """Its config, with options."""
    make_scenes(folder / "scenes", ScenesConfig(train=1, val=2, size=32))
    config = Config.fromfile(config_path(SEGMENTOR))
    place = {"test_dataloader.dataset.data_root": str(folder / "scenes")}
    config.merge_from_dict(place | options)
    return config


def augmented(folder):
    """The same with `AUGMENTED`."""
    config = scenes(folder, **{"test_dataloader.dataset.pipeline": AUGMENTED})
    config.model = dict(type="SegTTAModel", module=config.model)
    return config
