"""A slow judge of redundancy, which compares maps pair by pair."""

from itertools import pairwise
from operator import itemgetter

import numpy as np


def scaled_by_loop(image):
    spread = image.max() - image.min()
    return (image - image.min()) / spread if spread else np.zeros_like(image)


def compare_by_loop(a, b):
    if a.any() and b.any():
        cc = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    else:
        cc = float(a.any() == b.any())
    return cc, np.sqrt(np.mean((a - b) ** 2))


def judged(output):
    """All pairs of both axes of an output (N, C, T, H, W), one by one in float64."""
    n, c, t = output.shape[:3]
    images = {i: scaled_by_loop(output[i]) for i in np.ndindex(n, c, t)}
    time = [
        compare_by_loop(images[i, k, a], images[i, k, b])
        for i in range(n)
        for a, b in pairwise(range(t))
        for k in range(c)
    ]
    # Of equal matches, as a constant map has, the first.
    channel = [
        max(
            (
                compare_by_loop(images[i, k, f], images[i, other, f])
                for other in range(c)
                if other != k
            ),
            key=itemgetter(0),
        )
        for i in range(n)
        for f in range(t)
        for k in range(c)
    ]
    return {"time": np.array(time), "channel": np.array(channel)}
