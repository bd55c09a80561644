"""A video while it plays: sources, clips that slide, and the page in a real browser."""

import socket
import struct
import time
from http.client import HTTPConnection
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from vared_mm.datasets.mp4 import video_writer
from vared_mm.engine.cost_metric import SampleCost
from vared_mm.infer.frame_files import UnreadableFileError
from vared_mm.infer.live import check_display, live, shown_in, window
from vared_mm.infer.live_page import page
from vared_mm.infer.sliding import Answer
from vared_mm.infer.source import Source, source_of, without_password

HALF = SampleCost(["a"], np.full(1, 8e6), np.full(1, 4e6), np.full(1, 4e6), 1e6, views=1)


@pytest.fixture
def video(tmp_path):
    """10 frames at 20 a second, each greyer than the one before."""
    with video_writer(tmp_path / "grey.mp4", 20) as write:
        for i in range(10):
            write(np.full((64, 64, 3), 20 * i + 20, np.uint8))
    return tmp_path / "grey.mp4"


class Clips:
    """Answers the label 1 once it has seen a bright frame; keeps the greys that it was asked of."""

    def __init__(self, frames):
        self.frames, self.asked = frames, []

    def __call__(self, shots):
        self.asked.append([round((int(shot.mean()) - 20) / 20) for shot in shots])
        return Answer(int(self.asked[-1][-1] > 5), 0.5, HALF, 3.0)


def played(video, clips, every, **how):
    shown = []
    with source_of(str(video)) as source:
        said = list(live(source, clips, every, shown.append, ["dark", "bright"], **how))
    return said, shown


def test_clips_slide_over_all_frames_each_of_which_is_shown_with_the_last_answer(video):
    clips = Clips(4)
    said, shown = played(video, clips, every=3)
    assert clips.asked == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert [(one.frame, one.answer.label) for one in said] == [(4, 0), (7, 1), (10, 1)]
    assert len(shown) == 10
    # Frames at five times their size, over three lines of text.
    assert {canvas.shape for canvas in shown} == {(320 + 50, 320, 3)}
    texts = [canvas[320:].tobytes() for canvas in shown]
    assert [texts.index(text) for text in texts] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 6]


def test_a_viewer_that_has_seen_enough_ends_it(video):
    clips = Clips(4)
    with source_of(str(video)) as source:
        assert len(list(live(source, clips, 1, lambda canvas: len(clips.asked) == 2, []))) == 2


def test_a_file_is_shown_in_its_own_time_where_somebody_looks(video):
    start = time.monotonic()
    played(video, Clips(4), 3, in_time=True)
    assert time.monotonic() - start > 10 / 20


def test_a_video_shorter_than_a_clip_is_told_with_both_numbers(video):
    with pytest.raises(ValueError, match=r"grey\.mp4 ends after 10 frames, and a clip has 16"):
        played(video, Clips(16), 1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gone.mp4", "there is no file gone.mp4: it does not exist"),
        ("text.mp4", "text.mp4 cannot be opened: it is no video that OpenCV"),
        ("987", "camera 987 cannot be opened: OpenCV finds no camera of that number"),
        ("rtsp://me:secret@127.0.0.1:9/x", "rtsp://127.0.0.1:9/x cannot be opened: nothing that"),
    ],
)
def test_a_source_that_cannot_be_opened_is_told_without_its_password(
    tmp_path, monkeypatch, name, told
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UnreadableFileError, match=told), source_of(name):
        pass


class Camera:
    """Takes a picture each 10 ms, 30 of them, whether anybody reads or not."""

    def __init__(self):
        self.begun, self.taken = time.monotonic(), -1

    def read(self):
        self.taken = max(self.taken + 1, int((time.monotonic() - self.begun) / 0.01))
        time.sleep(max(0, self.begun + 0.01 * self.taken - time.monotonic()))
        return self.taken < 30, np.full((4, 4, 3), self.taken, np.uint8)


def test_of_a_camera_the_newest_frames_come_together_and_none_waits_for_the_model():
    batches, came = [], 0
    for new, number in Source("camera 0", Camera(), waits=False).arriving(keep=4):
        batches.append([int(frame[0, 0, 0]) for frame in new])
        came += number
        time.sleep(0.1)
    # Ten come while the model takes its time, of which it gets four: the others count, too.
    assert sum(map(len, batches)) < came <= 30
    assert len(batches) < 10
    assert max(map(len, batches)) == 4
    assert batches[-1][-1] == 29
    flat = [number for batch in batches for number in batch]
    assert flat == sorted(set(flat))


def test_what_is_written_of_a_camera_takes_as_long_as_what_it_saw():
    came, shown = [], []

    class Slow(Clips):
        def __call__(self, shots):
            time.sleep(0.1)
            return super().__call__(shots)

    def seen(camera):
        for new, number in Source("camera 0", Camera(), waits=False).arriving(4):
            came.append(number)
            yield new, number

    camera = SimpleNamespace(name="camera 0", rate=100.0, waits=False, arriving=seen)
    list(live(camera, Slow(4), 8, shown.append, ["dark", "bright"]))
    # Some frames came together, each has its picture all the same; who looks on sees the newest.
    assert len(shown) == sum(came) > len(came)
    came, shown = [], []
    list(live(camera, Slow(4), 8, shown.append, ["dark", "bright"], in_time=True))
    assert len(shown) == len(came)


def test_a_file_that_tells_no_number_of_frames_loses_none(video, monkeypatch):
    with source_of(str(video)) as source:
        whole = len(list(source.arriving(4)))
    monkeypatch.setattr("cv2.CAP_PROP_FRAME_COUNT", -1)
    with source_of(str(video)) as source:
        assert source.waits
        assert len(list(source.arriving(4))) == whole


@pytest.mark.parametrize(("address", "told"), [
    ("rtsp://me:secret@cam/1", "rtsp://cam/1"), ("rtsp://me:a@b/c@cam/1", "rtsp://cam/1"),
    ("http://cam/v.cgi?user=me&pwd=secret", "http://cam/v.cgi"), ("rtsp://cam/1", "rtsp://cam/1"),
])  # fmt: skip
def test_a_stream_is_named_without_its_password(address, told):
    assert without_password(address) == told


def test_a_window_is_refused_where_there_is_no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ValueError, match=r"no (display|windows).*--serve .*--out FILE\.mp4"):
        check_display()


@pytest.mark.parametrize(("key", "visible", "ends"), [(-1, 1, False), (27, 1, True), (-1, 0, True)])
def test_a_window_ends_by_escape_or_its_cross(monkeypatch, key, visible, ends):
    shown = []
    monkeypatch.setattr("cv2.imshow", lambda name, canvas: shown.append(canvas))
    monkeypatch.setattr("cv2.waitKey", lambda wait: key)
    monkeypatch.setattr("cv2.getWindowProperty", lambda *asked: visible)
    monkeypatch.setattr("cv2.destroyAllWindows", lambda: shown.append("gone"))
    with window() as show:
        assert show("canvas") == ends
    assert shown == ["canvas", "gone"]


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_page_is_read_as_a_stream_until_the_source_ends(video, port):
    with source_of(str(video)) as source:

        def play():
            with shown_in(source, None, port) as show:
                list(live(source, Clips(4), 3, show, [], in_time=True))

        player = Thread(target=play)
        player.start()
        wait_for(port)
        with source_of(f"http://127.0.0.1:{port}/stream") as stream:
            assert not stream.waits
            seen = [frame for new, _ in stream.arriving(10) for frame in new]
        player.join(10)
    assert not player.is_alive()
    assert {frame.shape for frame in seen} == {(370, 320, 3)}
    # The last one is there whatever was left out.
    assert seen[-1][:320].mean() == pytest.approx(200, abs=4)


def wait_for(port):
    for _ in range(200):
        with socket.socket() as one:
            if not one.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [("/", "localhost", 200), ("/", "elsewhere.org", 403), ("/other", "localhost", 404)],
)
def test_the_page_answers_this_machine_alone(port, path, host, status):
    with_page = Thread(target=lambda: page(port, "<b>").__enter__(), daemon=True)
    with_page.start()
    wait_for(port)
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == status
    assert "<b>" not in text
    assert ("&lt;b&gt;" in text) == (status == 200)


def test_a_browser_that_goes_away_in_the_middle_of_its_question_is_no_error(port, capsys):
    with_page = Thread(target=lambda: page(port, "a").__enter__(), daemon=True)
    with_page.start()
    wait_for(port)
    with socket.create_connection(("127.0.0.1", port)) as browser:
        browser.sendall(b"GET / HT")
        # Closed without a word of farewell.
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.3)
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    assert capsys.readouterr().err == ""


def test_a_port_that_is_taken_is_told(port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(OSError, match=f"port {port} cannot be used: .*; name another"):
            page(port, "a").__enter__()


def test_a_browser_shows_the_video_move_and_keeps_its_last_picture(browser, video, port):
    with source_of(str(video)) as source:

        def play():
            with shown_in(source, None, port) as show:
                for _ in live(source, Clips(4), 3, lambda canvas: show(canvas), [], in_time=True):
                    time.sleep(0.3)

        player = Thread(target=play)
        player.start()
        wait_for(port)
        browser.get(f"http://127.0.0.1:{port}/")
        assert browser.find_element("tag name", "h1").text == str(video)
        greys = []
        while player.is_alive() or len(greys) < 3:
            greys.append(browser.execute_script(GREY))
        player.join()
    assert len(set(greys)) > 2
    assert greys == sorted(greys)
    assert browser.execute_script(GREY) == pytest.approx(200, abs=6)
    assert browser.get_log("browser") == []


# Of the picture's upper left corner, once there is one; -1 before.
GREY = """
const picture = document.querySelector("img");
if (!picture.naturalWidth) return -1;
const paper = document.createElement("canvas").getContext("2d");
paper.drawImage(picture, 0, 0);
return paper.getImageData(9, 9, 1, 1).data[0];
"""
