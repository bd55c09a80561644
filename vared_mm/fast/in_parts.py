"""A batch whose maps would outgrow the memory at hand, run a few samples at a time.

In evaluation the answer for a sample is its own, so that of a batch is those of its parts, where
all that is done with the maps is known to take each sample by itself.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from vared_mm.fast.expansion import Expansion
from vared_mm.fast.flat_calls import flat_function
from vared_mm.fast.graph import ADDS, RELUS, SIGMOIDS
from vared_mm.fast.prepared_forward import PreparedForward, has_hooks
from vared_mm.fast.squeeze_excite import SqueezeExcite
from vared_mm.kernels.squeeze_excite import swish
from vared_mm.method.gate import BlockGate, FollowerGate, Gate
from vared_mm.method.layer import _Dynamic

# Bytes of a map. What is larger glibc keeps for no other one: the system hands out fresh memory
# each time and clears it first, and none of it is in a cache.
LARGEST = 1 << 25

# What takes each sample by itself, beside what is prepared. Maps keep their number of dimensions.
GATES = {Gate, BlockGate, FollowerGate}
MODULES = {
    *(nn.Identity, nn.Dropout, nn.ReLU, nn.SiLU, nn.Sigmoid, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.SyncBatchNorm, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, Expansion, SqueezeExcite, *GATES),
}
OPERATIONS: set = {operator.mul, torch.mul, swish, F.interpolate, *ADDS, *RELUS, *SIGMOIDS}


class InParts:
    """The graph of a module, on a CPU in parts where it takes each sample by itself.

    Hooks on modules inside see whole batches: with one, the batch runs at once. Those on gates
    alone, which are asked in order, see the parts.
    """

    def __init__(self, graph: fx.GraphModule, module: nn.Module) -> None:
        self.graph, self.run = graph, flat_function(graph)
        self.inside = [m for m in module.modules() if m is not module and type(m) not in GATES]
        self.dimensions = {m.weight.ndim for m in self.inside if isinstance(m, _ConvNd)}
        nodes = graph.graph.nodes
        self.separable = keeps_to_itself(module) and all(is_separable(n, graph) for n in nodes)
        # Bytes of the largest map for each of the input, known by the first call.
        self.growth: float | None = None

    def __call__(self, *inputs: Any) -> Any:
        batch = self._batch_of(inputs) if self.separable else 0
        if not batch:
            return self.run(*inputs)
        if self.growth is None:
            measured = Measured(self.graph)
            answer = measured.run(*inputs)
            self.growth = measured.largest / inputs[0].nbytes
            return answer
        at_once = max(1, int(LARGEST * batch / (self.growth * inputs[0].nbytes)))
        if at_once >= batch or any(map(has_hooks, self.inside)):
            return self.run(*inputs)
        each = zip(*(x.split(at_once) for x in inputs), strict=True)
        answers = [tree_flatten(self.run(*part)) for part in each]
        columns = zip(*(leaves for leaves, _ in answers), strict=True)
        return tree_unflatten([torch.cat(column) for column in columns], answers[0][1])

    def _batch_of(self, inputs: tuple[Any, ...]) -> int:
        """How many samples there are, if all inputs are maps on a CPU and agree on it; else 0."""
        if not all(isinstance(x, Tensor) and x.device.type == "cpu" for x in inputs):
            return 0
        alike = len({x.shape[:1] for x in inputs}) == 1
        known = alike and {x.ndim for x in inputs} == self.dimensions and inputs[0].numel()
        return inputs[0].shape[0] if known else 0


class Measured(fx.Interpreter):
    """Runs a graph and keeps the size of its largest map, in bytes."""

    largest = 1

    def run_node(self, n: fx.Node) -> Any:
        answer = super().run_node(n)
        if isinstance(answer, Tensor):
            self.largest = max(self.largest, answer.nbytes)
        return answer


def keeps_to_itself(module: nn.Module) -> bool:
    """Whether its gates are ours, and no norm takes its statistics of the batch."""
    parts = list(module.modules())
    ours = all(is_known(m.gate) for m in parts if isinstance(m, _Dynamic))
    return ours and all(m.running_mean is not None for m in parts if isinstance(m, _NormBase))


def is_separable(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether samples alone are answered as in a batch; in doubt, no."""
    if node.op == "output":
        return all(isinstance(v, fx.Node) and v.op != "placeholder" for v in tree_leaves(node.args))
    if node.op == "call_module":
        return is_known(graph.get_submodule(str(node.target)))
    if node.target is torch.cat:
        dimension = node.kwargs.get("dim", *node.args[1:])
        return isinstance(dimension, int) and dimension > 0
    # Attributes may have an operation's name.
    return node.op == "placeholder" or (node.op != "get_attr" and node.target in OPERATIONS)


def is_known(module: nn.Module) -> bool:
    kept = type(module) in MODULES and "forward" not in vars(module)
    return kept or isinstance(module.forward, PreparedForward)
