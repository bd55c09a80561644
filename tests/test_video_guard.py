"""A video that cannot be read is named, or on request passed over and counted."""

import copy
import errno
import pickle
import wave
from multiprocessing.reduction import ForkingPickler

import cv2
import decord
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS

import vared_mm  # noqa: F401
from vared_mm.datasets.video_faults import MISREAD_WIDTHS, fault_in, fault_of_frames, first_line
from vared_mm.datasets.video_guard import BrokenVideoError, VaRedVideoGuard, fault_of


def write_video(path, frames=6, width=32):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (width, 32))
    for i in range(frames):
        writer.write(np.full((32, width, 3), 40 * i, np.uint8))
    writer.release()
    return path


@DATASETS.register_module()
class Videos(BaseDataset):
    """Reads as MMAction2's DecordInit does: any fault of the file is a decord error."""

    def __init__(self, files, wrong_code=False, raises=None, **settings):
        self.files, self.wrong_code, self.raises = files, wrong_code, raises
        super().__init__(serialize_data=False, **settings)

    def load_data_list(self):
        return [{"filename": str(file)} for file in self.files]

    def get_cat_ids(self, index):
        return [index % 2]

    def prepare_data(self, index):
        name = self.get_data_info(index)["filename"]
        if self.raises:
            raise self.raises
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


def test_a_setting_of_the_data_set_within_is_refused_with_its_place(files):
    settings = dict(type="VaRedVideoGuard", dataset=Videos(files), ann_file="a.txt", test_mode=True)
    with pytest.raises(
        ValueError, match=r"takes no ann_file, test_mode: .* as dataset\.dataset\.ann"
    ):
        DATASETS.build(settings)


def test_an_unknown_policy_is_refused(files):
    with pytest.raises(ValueError, match=r"broken is 'ignore'; wanted one of \('raise', 'skip'\)"):
        guard(files, "ignore")


def test_a_whole_video_has_no_fault(files):
    assert fault_of(str(files[0])) is None


@pytest.mark.parametrize("width", MISREAD_WIDTHS)
def test_a_width_that_decord_misreads_is_a_fault(tmp_path, width):
    file = write_video(tmp_path / "narrow.mp4", width=width)
    assert fault_of(str(file)) == (
        f"is {width} pixels wide, which decord misreads; give it another width"
    )


def test_a_folder_is_not_called_missing(tmp_path):
    assert fault_of(str(tmp_path)) == "is a folder"


class CutReader:
    """decord's on what is left of a download whose index, of 40 frames, stands in front."""

    def __init__(self, source, num_threads):
        self.frames = 40 if hasattr(source, "read") else 9

    def __len__(self):
        return self.frames

    def __getitem__(self, index):
        if index >= 9:
            raise decord.DECORDError("Error sending packet.\nStack")
        return np.zeros((32, 32, 3))


def test_a_download_that_broke_off_is_opened_as_the_pipeline_does(files, monkeypatch):
    monkeypatch.setattr(decord, "VideoReader", CutReader)
    assert fault_of(str(files[0])) == "cannot be decoded (Error sending packet.)"


def write_sound(path):
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "none"))
        sound.writeframes(bytes(8000))


@pytest.mark.parametrize(("write", "fault"), [
    (lambda path: cv2.imwrite(str(path), np.zeros((32, 32), np.uint8)),
     "is a picture; wanted a video"),
    (write_sound, "holds no video stream"),
    (lambda path: path.write_text("text " * 99),
     "cannot be decoded (it is no video, or one that lacks a part)"),
], ids=["picture.jpg", "sound.wav", "text.mp4"])  # fmt: skip
def test_what_is_no_video_is_told_for_what_it_is(tmp_path, request, write, fault):
    file = tmp_path / request.node.callspec.id
    write(file)
    assert fault_of(str(file)) == fault


@pytest.mark.parametrize(("said", "line"), [
    ("[14:13:49] /src/video/reader.cc:270: [BytesIO] Failed to open.\n\nStack", "Failed to open."),
    ("OpenCV(5.1.0) /io/src/color.cpp:199: error: (-215) empty", "(-215) empty"),
    ("lost a.cc:12: and more", "lost a.cc:12: and more"),
    ("", "ValueError"),
])  # fmt: skip
def test_where_in_a_decoder_s_source_it_failed_is_not_told(said, line):
    assert first_line(ValueError(said)) == line


def test_a_relative_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4").rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert fault_of("12:30.mp4") is None


def test_what_a_decoder_says_of_a_file_that_looks_whole_is_told_with_its_name(files):
    broken = guard(files[:1], raises=decord.DECORDError("lost a frame"))
    with pytest.raises(BrokenVideoError, match=r"good0.mp4 cannot be read \(lost a frame\)"):
        broken[0]


def test_what_the_machine_lacks_is_not_blamed_on_the_video(files):
    with pytest.raises(OSError, match="files"):
        guard(files[:1], "skip", raises=OSError(errno.EMFILE, "too many files"))[0]


BUILT = {
    "repeated": lambda s: VaRedVideoGuard(dict(type="RepeatDataset", times=2, dataset=s)),
    "balanced": lambda s: VaRedVideoGuard(
        dict(type="ClassBalancedDataset", oversample_thr=0.1, dataset=s)
    ),
    "beside each other": lambda s: VaRedVideoGuard(dict(type="ConcatDataset", datasets=[s, s])),
    "around what is built": lambda s: VaRedVideoGuard(
        ConcatDataset([DATASETS.build(s), DATASETS.build(s)])
    ),
    "inside what is built": lambda s: ConcatDataset([VaRedVideoGuard(s), VaRedVideoGuard(s)]),
    "inside and built": lambda s: RepeatDataset(VaRedVideoGuard(DATASETS.build(s)), 2),
    "around torch's own": lambda s: VaRedVideoGuard(
        torch.utils.data.Subset(
            torch.utils.data.ConcatDataset([DATASETS.build(s), DATASETS.build(s)]), [2, 3]
        )
    ),
    "in itself": lambda s: VaRedVideoGuard(VaRedVideoGuard(s)),
}


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_a_guard_goes_around_and_into_every_wrapper(files, build):
    data = build(dict(type="Videos", files=[files[0], files[2]], metainfo=dict(classes=("a",))))
    assert len(data) in (2, 4)
    if hasattr(data.dataset if isinstance(data, VaRedVideoGuard) else data, "metainfo"):
        assert data.metainfo == dict(classes=("a",))
        assert data.get_data_info(0)["filename"] == str(files[0])
    assert data[0][0] == str(files[0])
    with pytest.raises(BrokenVideoError, match="empty.mp4 is empty"):
        data[1]


PIPELINE = [dict(type="PackActionInputs")]


def test_a_pipeline_reaches_the_data_sets_inside_and_replaces_theirs(files):
    import mmaction.datasets.transforms  # noqa: F401
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    part = dict(type="mmengine.Videos", files=files)
    nested = dict(type="RepeatDataset", times=2, dataset=dict(part, pipeline=[]))
    settings = dict(type="ConcatDataset", datasets=[nested, part, DATASETS.build(part)])
    held = VaRedVideoGuard(dict(type="RepeatDataset", times=1, dataset=settings), "raise", PIPELINE)
    first, *others = held.dataset.dataset.datasets
    for inner in (first.dataset, *others):
        assert len(inner.pipeline.transforms) == 1
    assert "pipeline" not in part
    with pytest.raises(ValueError, match="a Videos that is built with a pipeline of its own"):
        VaRedVideoGuard(others[0], pipeline=PIPELINE)


def test_a_test_set_within_wrappers_is_not_skipped_either(files):
    inner = dict(type="Videos", files=files, test_mode=True)
    with pytest.raises(ValueError, match="evaluate another video"):
        VaRedVideoGuard(dict(type="ConcatDataset", datasets=[inner]), "skip")


COPIES = {
    "deep": copy.deepcopy,
    "pickled": lambda data: pickle.loads(pickle.dumps(data)),
    "for a worker": lambda data: pickle.loads(ForkingPickler.dumps(data)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_knows_what_was_skipped_and_its_workers_count_together(files, copied):
    data = guard(files, "skip")
    assert data[1] == data[4]
    other = copied(data)
    assert other.skipped == [str(file) for file in files[1:4]]
    assert other[0] == data[0]
    assert other._skipped.is_shared()


def test_a_subset_is_guarded_too(files):
    assert guard(files, "skip").get_subset([0, 1, 4])[1] == (str(files[4]), 6, 2)
    data = guard(files)
    data.get_subset_([0])
    assert [sample[0] for sample in data] == [str(files[0])]


def test_nobody_goes_past_the_guard(files):
    data = guard(files, "skip")
    data.dataset.__getitems__ = None
    assert not hasattr(data, "__getitems__")
    with pytest.raises(IndexError, match="sample 5 of 5"):
        data[5]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: None, None),
        (lambda folder: (folder / "img_00002.jpg").unlink(), "lacks 1 of 3 frames, as img_00002"),
        (lambda folder: (folder / "img_00003.jpg").write_bytes(b""), "the frame img_00003.jpg"),
        (lambda folder: (folder / "img_00003.jpg").write_bytes(b"no"), "which cannot be decoded"),
    ],
)
def test_frames_of_a_folder_are_looked_at_one_by_one(tmp_path, change, fault):
    for number in (1, 2, 3):
        cv2.imwrite(str(tmp_path / f"img_{number:05d}.jpg"), np.zeros((8, 8, 3), np.uint8))
    change(tmp_path)
    info = dict(frame_dir=str(tmp_path), total_frames=3, start_index=1, modality="RGB")
    info["filename_tmpl"] = "img_{:05}.jpg"
    found = fault_of_frames(info)
    assert found == fault or fault in found
    assert fault_of_frames({**info, "frame_dir": str(tmp_path / "no")}) == "does not exist"


def test_a_skeleton_has_a_name_and_no_files_to_blame():
    info = dict(frame_dir="S001C001", total_frames=3, keypoint=np.zeros((1, 3, 17, 2)))
    assert fault_in(info, KeyError("mine")) is None


@pytest.mark.parametrize("wrong", ["Videos", None, 3])
def test_what_is_no_data_set_is_refused(wrong):
    with pytest.raises(TypeError, match="wanted a data set or its settings"):
        VaRedVideoGuard(wrong)


def test_a_sample_that_tells_no_file_keeps_its_own_error():
    class Plain(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        VaRedVideoGuard(Plain(), "skip")[0]
