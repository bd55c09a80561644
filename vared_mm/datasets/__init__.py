from vared_mm.datasets import video_guard as video_guard
