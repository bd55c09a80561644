from vared_mm.datasets import jhmdb as jhmdb
from vared_mm.datasets import key_frame_clips as key_frame_clips
from vared_mm.datasets import video_guard as video_guard
