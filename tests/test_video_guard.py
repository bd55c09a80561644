"""A video that cannot be read is named, or on request passed over and counted."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from vared_mm.datasets.video_guard import BrokenVideoError, VaRedVideoGuard, fault_of


def write_video(path, frames=6):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (32, 32))
    for i in range(frames):
        writer.write(np.full((32, 32, 3), 40 * i, np.uint8))
    writer.release()
    return path


@DATASETS.register_module()
class Videos(BaseDataset):
    """Reads as MMAction2's DecordInit does: any fault of the file is a decord error."""

    def __init__(self, files, wrong_code=False, **settings):
        self.files, self.wrong_code = files, wrong_code
        super().__init__(serialize_data=False, **settings)

    def load_data_list(self):
        return [{"filename": str(file)} for file in self.files]

    def prepare_data(self, index):
        import decord

        name = self.get_data_info(index)["filename"]
        count = len(decord.VideoReader(name))
        return name, count, {}["missing"] if self.wrong_code else index


@pytest.fixture
def files(tmp_path):
    """Readable, missing, empty, truncated and readable."""
    good = [write_video(tmp_path / "good0.mp4"), write_video(tmp_path / "good1.mp4")]
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(good[0].read_bytes()[:-200])
    return [
        good[0],
        tmp_path / "missing.mp4",
        tmp_path / "empty.mp4",
        tmp_path / "cut.mp4",
        good[1],
    ]


def guard(files, broken="raise", **settings):
    return VaRedVideoGuard(dict(type="Videos", files=files, **settings), broken=broken)


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        (1, r"missing\.mp4 does not exist"),
        (2, r"empty\.mp4 is empty \(0 bytes\)"),
        (3, r"cut\.mp4 cannot be decoded"),
    ],
)
def test_the_broken_file_is_named_with_its_fault_and_a_way_out(files, index, fault):
    with pytest.raises(BrokenVideoError, match=fault + r".*broken='skip' in VaRedVideoGuard"):
        guard(files)[index]


def test_a_readable_file_is_handed_through(files):
    assert guard(files)[4] == (str(files[4]), 6, 4)


def test_broken_files_are_passed_over_and_counted_once(files):
    dataset = guard(files, "skip")
    for _ in range(2):
        assert [dataset[i][2] for i in range(5)] == [0, 4, 4, 4, 4]
    assert dataset.skipped == [str(file) for file in files[1:4]]


def test_workers_count_together(files):
    dataset = guard(files, "skip")
    loader = torch.utils.data.DataLoader(dataset, num_workers=2, batch_size=None)
    assert len(list(loader)) == 5
    assert len(dataset.skipped) == 3


def test_with_nothing_left_it_gives_up(files):
    with pytest.raises(BrokenVideoError, match="none of the 3 videos of the data set can be read"):
        guard(files[1:4], "skip")[0]


def test_a_fault_of_the_pipeline_is_not_blamed_on_the_video(files):
    with pytest.raises(KeyError, match="missing"):
        guard(files, "skip", wrong_code=True)[0]


def test_skipping_in_a_test_set_is_refused(files):
    with pytest.raises(ValueError, match="evaluate another video in place of a broken one"):
        guard(files, "skip", test_mode=True)


def test_an_unknown_policy_is_refused(files):
    with pytest.raises(ValueError, match=r"broken is 'ignore'; wanted one of \('raise', 'skip'\)"):
        guard(files, "ignore")


def test_a_whole_video_has_no_fault(files):
    assert fault_of(str(files[0])) is None


def test_a_folder_is_not_called_missing(tmp_path):
    assert fault_of(str(tmp_path)) == "is a folder"
