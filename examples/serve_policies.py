"""Serves a folder of `tools/export.py --policies K` in ONNX Runtime or OpenVINO.

serve = Served("served")
scores = serve(clips)  # (batch, 3, T, H, W), float32, after the data preprocessor
"""

from functools import cache
from pathlib import Path

import numpy as np


def loaded(file):
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        return lambda clips: session.run(None, {"inputs": clips})[0]
    # The router takes no time, and rounded to bfloat16 it may tell another policy.
    hints = {"INFERENCE_PRECISION_HINT": "f32"} if file.stem == "router" else {}
    network = core().compile_model(file, "CPU", {"PERFORMANCE_HINT": "LATENCY", **hints})
    return lambda clips: network([clips])[0].copy()


@cache
def core():
    """One for all files: where several are freed, a signal may end the process later."""
    import openvino

    return openvino.Core()


class Served:
    def __init__(self, folder):
        files = [f for f in Path(folder).iterdir() if f.suffix in (".onnx", ".xml")]
        self.runs = {file.stem: loaded(file) for file in files}

    def __call__(self, clips):
        policies, scores = self.runs["router"](clips), {}
        for policy in np.unique(policies):
            own = np.flatnonzero(policies == policy)
            scores.update(zip(own, self.runs[f"policy-{policy}"](clips[own]), strict=True))
        return np.stack([scores[i] for i in range(len(clips))])
