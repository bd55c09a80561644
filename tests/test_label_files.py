"""Label images that MMSegmentation would misread are named; those that fit are read as before."""

import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

import vared_mm  # noqa: F401  applies the cures
from vared_mm.compat import label_files

SIZE = (4, 6)


def read(folder, labels, orientation=1, scale=None, size=SIZE):
    """What a pipeline makes of a picture and its labels."""
    from mmcv.transforms import LoadImageFromFile, Resize
    from mmseg.datasets.transforms import LoadAnnotations

    picture, file = folder / "street.jpg", folder / "street.png"
    exif = Image.Exif()
    exif[label_files.ORIENTATION] = orientation
    Image.new("RGB", size[::-1]).save(picture, exif=exif)
    if isinstance(labels, Image.Image):
        labels.save(file)
    else:
        cv2.imwrite(str(file), labels)
    sample = dict(
        img_path=str(picture), seg_map_path=str(file), seg_fields=[], reduce_zero_label=False
    )
    steps = [LoadImageFromFile(), *([Resize(scale)] if scale else []), LoadAnnotations()]
    for step in steps:
        sample = step(sample)
    return sample["gt_seg_map"]


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    monkeypatch.setattr(label_files, "_told", [])


@pytest.mark.parametrize(
    ("value", "kind", "whole"),
    [(4, np.uint8, 4), (255, np.uint16, 255)],
)
def test_labels_of_8_bits_are_read_whatever_holds_them(value, kind, whole, tmp_path):
    found = read(tmp_path, np.full(SIZE, value, kind))
    assert (found.dtype, found.shape, set(found.flat)) == (np.uint8, SIZE, {whole})


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_a_picture_of_one_row_or_column_keeps_it_in_its_labels(size, tmp_path):
    assert (
        read(tmp_path, np.full(size, 7, np.uint8), size=size).tolist() == np.full(size, 7).tolist()
    )


def test_a_palette_is_no_colour(tmp_path):
    labels = Image.fromarray(np.full(SIZE, 3, np.uint8)).convert("P")
    assert read(tmp_path, labels).shape == SIZE


def test_a_picture_that_is_resized_first_keeps_the_labels_of_its_file(tmp_path):
    assert read(tmp_path, np.zeros(SIZE, np.uint8), scale=(12, 8)).shape == SIZE


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.full(SIZE, 257, np.uint16),
            r"street.png has labels of type .*int.* like 257, which 8 bits do not hold",
        ),
        (np.zeros((8, 12), np.uint8), r"street.png gives labels of shape \(8, 12\), .* \(4, 6\)"),
        # As many as the picture has pixels, and as a column of it has.
        (np.zeros((1, 24), np.uint8), r"street.png gives labels of shape \(1, 24\), .* \(4, 6\)"),
        (np.zeros((4, 1), np.uint8), r"street.png gives labels of shape \(4, 1\), .* \(4, 6\)"),
        (np.zeros((*SIZE, 3), np.uint8), r"shape \(4, 6, 3\); .* the colours of the classes\?"),
    ],
    ids=["16 bits", "size", "row", "column", "colours"],
)
def test_labels_that_would_be_misread_are_named(labels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, labels)


@pytest.mark.parametrize("backend", ["pillow", "cv2"])
@pytest.mark.parametrize("content", [b"no image", b""], ids=["text", "nothing"])
def test_a_label_image_that_is_none_is_named(content, backend, tmp_path):
    from mmseg.datasets.transforms import LoadAnnotations

    file = tmp_path / "street.png"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"street\.png cannot be read as an image"):
        LoadAnnotations(imdecode_backend=backend)({"seg_map_path": str(file)})


def test_labels_of_a_photo_that_is_turned_as_it_is_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"street.jpg has \(6, 4\) \(its EXIF tag turns it"):
        read(tmp_path, np.zeros(SIZE, np.uint8), orientation=6)


def test_a_photo_that_is_turned_to_the_same_size_is_told_once(tmp_path):
    with pytest.warns(UserWarning, match="the EXIF tag of .*street.jpg turns or mirrors it"):
        read(tmp_path, np.zeros(SIZE, np.uint8), orientation=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path, np.zeros(SIZE, np.uint8), orientation=3)
