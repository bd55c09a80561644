"""Pictures as they come on a page of this machine, by Motion JPEG, which all browsers show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

import cv2
import numpy as np

from vared_mm.printing import visible

HOST = "127.0.0.1"
# Seconds that a browser gets to take a picture, and all of them to take the last one.
PATIENCE = 5.0

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; }}
body {{ margin: 1rem auto; max-width: 80rem; padding: 0 1rem; }}
img {{ max-width: 100%; }}
</style>
<h1>{title}</h1>
<img src="/stream" alt="the video with label, share of the computation and milliseconds">
</html>
"""


class Pictures:
    """The newest picture, for all that look."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.newest, self.number, self.viewers, self.is_over = b"", 0, 0, False

    def show(self, canvas: np.ndarray) -> None:
        jpeg = cv2.imencode(".jpg", canvas)[1].tobytes()
        with self.changed:
            self.newest, self.number = jpeg, self.number + 1
            self.changed.notify_all()

    def end(self) -> None:
        """Once all have the last one, or were given time for it."""
        with self.changed:
            self.is_over = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: not self.viewers, PATIENCE)

    def __iter__(self) -> Iterator[bytes]:
        """Each that is there when the one before was taken."""
        with self.changed:
            self.viewers += 1
            self.changed.notify_all()
        seen = 0
        try:
            while newer := self._after(seen):
                seen, jpeg = newer
                yield jpeg
        finally:
            with self.changed:
                self.viewers -= 1
                self.changed.notify_all()

    def _after(self, seen: int) -> tuple[int, bytes] | None:
        with self.changed:
            self.changed.wait_for(lambda: self.number > seen or self.is_over)
            return None if self.number == seen else (self.number, self.newest)


class Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE

    def __init__(self, title: str, pictures: Pictures, *connection: Any) -> None:
        self.title, self.pictures = title, pictures
        super().__init__(*connection)

    def handle(self) -> None:
        # A browser may close a connection at any time.
        with suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        # A page elsewhere whose name leads here shall not see the camera.
        if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._begin("text/html; charset=utf-8")
            self.wfile.write(PAGE.format(title=escape(visible(self.title))).encode())
        elif self.path == "/stream":
            self._begin("multipart/x-mixed-replace; boundary=picture")
            self._stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _begin(self, content: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

    def _stream(self) -> None:
        for jpeg in self.pictures:
            head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
        self.wfile.write(b"--picture--\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of each request."""


@contextmanager
def page(port: int, title: str) -> Iterator[Callable[[np.ndarray], None]]:
    """Takes BGR pictures for a page that this machine alone can open; waits for its first viewer.

    Args:
        port: 0 takes one that is free.

    Raises:
        OSError: The port is taken.
    """
    pictures = Pictures()
    try:
        server = ThreadingHTTPServer((HOST, port), partial(Handler, title, pictures))
    except OSError as error:
        raise OSError(f"port {port} cannot be used: {error.strerror}; name another") from error
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://{HOST}:{server.server_port} waits for a browser", flush=True)
        try:
            with pictures.changed:
                pictures.changed.wait_for(lambda: pictures.viewers)
            yield pictures.show
            pictures.end()
        finally:
            server.shutdown()
