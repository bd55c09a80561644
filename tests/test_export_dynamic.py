"""A dynamic network as one graph that chooses by itself."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from exported_toy import speeds, trained_toy
from installed import imported
from prepared import lively
from torch import nn

from vared_mm.export import one_graph
from vared_mm.export.choosing_conv import ChoosingConv
from vared_mm.export.clips import sizes_read
from vared_mm.export.exported import export
from vared_mm.export.one_graph import refuse_gates, refuse_rows
from vared_mm.export.snapshot import snapshot
from vared_mm.export.targets import TARGETS, ExportError
from vared_mm.export.trained import Settings
from vared_mm.fast.same_answers import apart
from vared_mm.method import DynamicConfig, make_dynamic
from vared_mm.method.observe import dynamic_convs

NOW = SimpleNamespace()


class Told(nn.Module):
    """A gate that answers what stands in the first pixel of the network's input."""

    def __init__(self, first, count):
        super().__init__()
        self.columns = slice(first, first + count)

    def forward(self, x):
        # Not a part of the input itself, which a branch may not read twice.
        return NOW.answers[:, self.columns].clone()


class ToldNet(nn.Sequential):
    def forward(self, x):
        NOW.answers = x.flatten(2)[:, :, 0]
        return super().forward(x)


def told_net(convs, space):
    """A network whose gates are told by as many input channels, and how many those are."""
    torch.manual_seed(0)
    net = ToldNet(*convs)
    x = torch.randn(3, convs[0].in_channels, *((5,) if convs[0].weight.ndim == 5 else ()), 6, 7)
    make_dynamic(net, DynamicConfig(targets="[03]", search_space=space))
    lively(net, x.abs())
    first = 0
    for conv in dynamic_convs(net).values():
        count = len(conv.axes) * space
        conv.gate = Told(first, count)
        first += count
    return net, x[:1], first // space


def written(net, x, to, folder):
    for package in {"onnx": ["onnxscript", "onnxruntime"], "openvino": ["openvino"]}.get(to, []):
        imported(package)
    with sizes_read(net) as sizes:
        net(x.abs())
    forms = {name: ChoosingConv(conv) for name, conv in dynamic_convs(net).items()}
    graph, file = snapshot(net, forms, sizes), folder / f"net{TARGETS[to].suffix}"
    TARGETS[to].write(graph.requires_grad_(False), x, file)
    return TARGETS[to].exact(file)


def patterns(axes, space):
    """Of all gates, every way to open one path or more of each axis."""
    ways = [way for way in product([0, 1], repeat=space) if any(way)]
    for way in product(ways, repeat=axes):
        yield torch.tensor([v for axis in way for v in axis]) * torch.linspace(
            0.3, 0.9, axes * space
        )


def two_convs():
    return (
        nn.Conv3d(8, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 5, 3, (2, 1, 1)),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(),
    )  # fmt: skip


CASES = {
    "two of two axes": (two_convs, 2),
    "three paths, stride 2, dilated": (
        lambda: (nn.Conv3d(6, 9, 3, (2, 1, 1), 2, (1, 2, 2), bias=False),), 3),
    "2-D, groups": (lambda: (nn.Conv2d(3, 9, 3, groups=3, padding="same"),), 3),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_graph_answers_as_the_network_whatever_is_open(case, tmp_path):
    convs, space = CASES[case]
    net, x, axes = told_net(convs(), space)
    run = written(net, x, "torch", tmp_path)
    every = list(patterns(axes, space))
    assert len(every) == (2**space - 1) ** axes
    for answers in every:
        x.flatten(2)[..., 0] = answers
        assert apart(run(x), net(x)) < 1e-5


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@torch.no_grad()
def test_engines_choose_as_the_network(to, tmp_path):
    net, x, axes = told_net(two_convs(), 2)
    run = written(net, x, to, tmp_path)
    for answers in patterns(axes, 2):
        x.flatten(2)[..., 0] = answers
        assert apart(run(x), net(x)) < 1e-4
    assert [file.suffix for file in tmp_path.iterdir() if file.suffix != ".bin"] == [
        TARGETS[to].suffix
    ]


def test_a_trained_network_is_written_with_its_gates(tmp_path, monkeypatch):
    timed = speeds(static=100.0, graph=150.0, dynamic=50.0)
    monkeypatch.setattr(one_graph, "timed_in_turn", timed)
    out = tmp_path / "new" / "toy.pt2"
    told = export(*trained_toy(tmp_path), out, Settings("torch", "dynamic", clips=5))
    assert [file.name for file in out.parent.iterdir()] == ["toy.pt2"]
    assert told["inputs"] == [1, 2, 4, 6, 6]
    assert told["dynamic"]["agreement"] == 1
    assert told["dynamic"]["difference"] < 1e-4 * told["dynamic"]["largest_score"]
    assert [row["network"] for row in told["rows"]] == ["static", "graph", "dynamic"]
    static, graph, dynamic = (row["gmacs"] for row in told["rows"])
    assert graph == dynamic < static
    assert torch.export.load(out).module()(torch.randn(1, 2, 4, 6, 6)).shape == (1, 3)


def test_gates_that_decide_for_each_frame_are_refused_with_what_would_do():
    refuse_rows([{"one": torch.zeros(1, 2, 1, 4)}])
    with pytest.raises(ExportError, match="for each of its 8 frames; give --policies 4"):
        refuse_rows([{"one": torch.zeros(1, 2, 1, 4), "each": torch.zeros(1, 1, 8, 2)}])


def test_too_many_gates_are_refused_with_what_would_do():
    convs = nn.Sequential(*(nn.Conv3d(2, 2, 1) for _ in range(17)))
    make_dynamic(convs, DynamicConfig(targets=".*"))
    refuse_gates(convs[:16])
    with pytest.raises(ExportError, match="has 17; wanted 1 to 16. Give --policies 4"):
        refuse_gates(convs)
    with pytest.raises(ExportError, match="has 0; wanted 1 to 16. Give --policy full"):
        refuse_gates(nn.Conv3d(2, 2, 1))
