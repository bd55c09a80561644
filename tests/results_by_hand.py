"""Results of evaluations as a test wants them, without a model."""

import numpy as np

from vared_mm.report.result import Data, Result, Samples


def spread(values):
    return {"avg": float(np.mean(values)), "min": float(min(values)), "max": float(max(values))}


def samples_of(files, labels, layers, share):
    n = len(files)
    layer_share = np.stack([share] * len(layers), 1) if layers else np.zeros((n, 0))
    return Samples(
        file=np.array(files),
        label=np.array(labels),
        predicted=np.roll(labels, 1),
        correct=np.array([i % 2 for i in range(n)], float),
        share=share,
        paper_gmacs=1 + share,
        full_gmacs=1.5 + share,
        layer_names=np.array(layers, dtype=np.str_),
        layer_dense=np.full((n, len(layers)), 2e9),
        layer_share=layer_share,
        loss=1 + share,
        **policies_by(share, layers),
    )


def policies_by(share, layers):
    """One for each share; all open or the first path alone."""
    if not layers:
        return {}
    values, policy = np.unique(share, return_inverse=True)
    answers = np.repeat(values[:, None], 2 * len(layers), 1)
    answers[0, 1::2] = 0
    return dict(policy=policy[:, None], policy_answers=answers, gate_names=np.repeat(layers, 2))


def result_of(samples, classes=None, **changes):
    layers = [
        {"name": name, "dense_gmacs": 2.0, "share": spread(samples.share),
         "full_gmacs": spread(samples.share)}
        for name in samples.layer_names.tolist()
    ]  # fmt: skip
    cost = {
        "dense_gmacs": 3.0,
        "share": spread(samples.share),
        "paper_gmacs": spread(samples.paper_gmacs),
        "full_gmacs": spread(samples.full_gmacs),
        "layers": layers,
    }
    settings = dict(
        name="vared_net", config="vared_net.py", options={}, checkpoint="net.pth", commit="c0ffee",
        created="2026-01-02T03:04:05+00:00", task="recognition",
        data=Data("VideoDataset", "clips/val.txt", len(samples), classes, "abc"), device="a CPU",
        threads=1, packages={"torch": "2.13"}, parameters=1234, metrics={"acc/top1": 0.5},
        cost=cost, speed=None,
    )  # fmt: skip
    return Result(**{**settings, **changes})


def result(top1: float, average: float, least: float) -> Result:
    """Of a run of the study, whose static network has 0.8 GMACs."""
    ends = {"avg": average, "min": least, "max": 0.9}
    kinds = dict.fromkeys(("paper_gmacs", "full_gmacs", "share"), ends)
    samples = samples_of(["a.mp4", "b.mp4"], [0, 1], [], np.ones(2))
    cost = {"dense_gmacs": 0.8, "layers": [], **kinds}
    return result_of(samples, metrics={"acc/top1": top1}, cost=cost)
