"""A trained model, static or dynamic, made ready for evaluation at speed."""

from __future__ import annotations

import copy
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from vared_mm.fast.branch import finished
from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.expansion import fuse_expansions
from vared_mm.fast.flat_calls import flat_function
from vared_mm.fast.forms import form_of, in_places, names_needed
from vared_mm.fast.fused_conv import DynamicConv, GatedParts, StaticConv
from vared_mm.fast.gpu.device_gate import DeviceGate
from vared_mm.fast.gpu.predicated_conv import PredicatedConv, is_predicated
from vared_mm.fast.graph import chains, fuse, fuse_silu
from vared_mm.fast.kept import left_alone
from vared_mm.fast.max_pool import MaxPool, is_plain_pool
from vared_mm.fast.packed_conv import output_size, read_in_planes
from vared_mm.fast.precision import ExactLinear, as_answer, as_maps, keep_products_exact, maps_of
from vared_mm.fast.prepared_forward import PreparedForward, has_hooks
from vared_mm.fast.prepared_gate import PreparedGate, is_plain_gate
from vared_mm.fast.recorded import Recorded
from vared_mm.fast.recorder import unrepeatable
from vared_mm.fast.same_answers import answers_of, refuse_other_answers
from vared_mm.fast.squeeze_excite import fuse_squeeze_excite
from vared_mm.fast.trial import Part, tried_parts
from vared_mm.fast.unchanged import Unchanged, refuse_changes
from vared_mm.kernels.memory import keep_memory
from vared_mm.method import observe
from vared_mm.method.gate import FollowerGate
from vared_mm.method.gated_conv import GatedConv
from vared_mm.method.layer import _Dynamic


def prepare_for_inference(
    model: nn.Module, *example: Any, precision: str = "auto", **call: Any
) -> nn.Module:
    """A copy of `model` that computes the same, and faster; for evaluation alone.

    BatchNorm, additions and ReLUs move into the convolutions before them where nothing else reads
    what is between, weights are laid out once, gates answer in one call, and what a dynamic
    convolution rebuilds is written in one pass. `fused(prepared)` tells what was done. The copy is
    for the device of `example`; its modules keep their names and types, so that
    `record_cost`, `forced_gates` and the metrics see what they see of `model`. It cannot be
    trained, changed, copied or pickled: keep `model`, and prepare again.

    Args:
        model: In evaluation mode.
        *example: What it is called with, as `clips` (N, 3, T, H, W). Other sizes are served too.
        precision: Of the maps within the model; weights, gates, linear layers and what the model
            takes and gives stay as they are. "bfloat16", for a model in float32 on a CPU;
            "float32", for that of its weights; "auto", bfloat16 where the processor computes in it
            and the model can (`vared_mm.fast.precision`).
        **call: And by name: `mode="tensor"` of a segmentor, with `stage="head"` of a recognizer,
            which else answers with feature maps.

    Raises:
        ValueError: The model is in training mode, or the copy answers to the example with
            something else than the model does, with some choices that are forced or, but for
            bfloat16, with its own; or writes into the model; or the precision is none of those.
    """
    maps = maps_of(model, precision)
    if model.training:
        raise ValueError("a model is prepared in evaluation mode; call model.eval() first")
    if maps is None or precision != "auto":
        return prepared_for(model, example, call, maps)
    try:
        return prepared_for(model, example, call, maps)
    # Operations of others may not know bfloat16, or make too much of its roundings.
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error)
    # Told only where float32 does not fail alike.
    prepared = prepared_for(model, example, call, None)
    logging.getLogger(__name__).warning("prepared in float32, as bfloat16 fails: %s", reason)
    return prepared


def prepared_for(
    model: nn.Module, example: tuple, call: dict[str, Any], maps: torch.dtype | None
) -> nn.Module:
    """The copy, with maps of that type; None for the model's own."""
    keep_memory()
    model = observe.unwatched(model)
    if any(map(is_lazy, model.parameters())):
        with torch.no_grad():
            model(*example, **call)
    with torch.no_grad(), left_alone(model):
        half = maps == torch.bfloat16
        expected = answers_of(copy.deepcopy(model), example, call, half)
        prepared = copy.deepcopy(model)
        for module in prepared.modules():
            if is_plain_pool(module):
                module.forward = MaxPool(module)  # type: ignore[arg-type]
            elif half and isinstance(module, nn.Linear) and "forward" not in vars(module):
                module.forward = ExactLinear(module)  # type: ignore[method-assign]
            elif isinstance(module, _ConvNd):
                read_in_planes(module)
        for part in tried_parts(prepared, example, call):
            prepare_part(part, maps)
        refuse_other_answers(answers_of(prepared, example, call, half), expected, half)
    refuse_changes(prepared)
    return prepared


def fused(prepared: nn.Module) -> dict[str, str]:
    """What the call of each prepared convolution does, by the convolution's name."""
    return {
        name: module.forward.does
        for name, module in prepared.named_modules()
        if isinstance(module.forward, Exchanged)
    }


class Exchanged(PreparedForward):
    """The `forward` of a prepared convolution.

    Only the traced graph knows what was fused and asks for it; whoever calls the convolution past
    the graph gets the convolution alone.
    """

    def __init__(
        self, conv: _ConvNd, epilogue: Epilogue, does: str, maps: torch.dtype | None
    ) -> None:
        kind: Callable = StaticConv
        if isinstance(conv, _Dynamic):
            kind = PredicatedConv if is_predicated(conv.weight) else DynamicConv
        elif isinstance(conv, GatedConv):
            kind = GatedParts
        # Asked in every call, and of a module slowly.
        self.ndim, self.inputs, held = conv.weight.ndim, conv.in_channels, conv.weight.dtype
        self.maps = maps or held
        # Autocast leaves some operations in the precision of the weights.
        self.turned = None if self.maps == held else held
        self.run, self.plain, self.does = kind(conv, epilogue, self.maps), conv.forward, does
        self.conv, self.epilogue = conv, epilogue

    def compute(self, x: Tensor, other: Tensor | None = None, fused: bool = False) -> Tensor:
        if fused:
            return self.fused(x, other)
        self._refuse_gradients(x)
        return self._alone(x)

    def fused(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """The convolution and what it took over."""
        self._refuse_gradients(x)
        if x.ndim != self.ndim or x.shape[1] != self.inputs:
            raise ValueError(
                f"a prepared convolution takes a batch (N, {self.inputs}, "
                f"{'T, ' * (self.ndim == 5)}H, W); came {tuple(x.shape)}"
            )
        if other is None:
            return self.run(self._as_maps(x), None)
        if not isinstance(other, Tensor):
            return finished(self._alone(x), self.epilogue, other)
        x, other = self._as_maps(x), self._as_maps(other)
        if self._can_add(other, x):
            return self.run(x, other)
        return finished(self._alone(x), self.epilogue, other)

    def _alone(self, x: Tensor) -> Tensor:
        """The convolution in its own way, in which a gate's answer is read where nobody sees it."""
        if isinstance(self.conv, _Dynamic):
            unrepeatable()
        return self.plain(x)

    def _refuse_gradients(self, x: Tensor) -> None:
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "no gradient passes a prepared convolution, and its input wants one; ask the model "
                "it was made from, or call the prepared one within torch.no_grad()"
            )

    def _as_maps(self, x: Tensor) -> Tensor:
        # A kernel reads memory as it is, and a negated view has that of what it negates.
        return (x.to(self.maps) if x.dtype == self.turned else x).resolve_neg()

    def _can_add(self, other: Tensor, x: Tensor) -> bool:
        """Whether the sum has the shape and the type of the convolution's own output."""
        shape = (x.shape[0], self.conv.out_channels, *output_size(self.conv, x.shape[2:]))
        if other.dtype != x.dtype:
            return False
        return other.shape == shape or torch.broadcast_shapes(other.shape, shape) == shape


class Traced(PreparedForward):
    """The `forward` of a module that was traced: the graph, or the module, for inputs of another
    form than the example's, numbers that are not finite, and where somebody looks at what the graph
    does not call.
    """

    def __init__(self, part: Part, maps: torch.dtype | None) -> None:
        module, graph, self.form = part
        self.graph, self.plain, self.names = graph, module.forward, names_needed(module)
        self.maps, self.run = maps, flat_function(graph)
        self.unchanged = Unchanged(module.modules())
        self.recorded = Recorded(self.run_as_maps)
        self.fused = [m for m in module.modules() if isinstance(m.forward, Exchanged)]
        calls = (n for n in graph.graph.nodes if n.op == "call_module")
        called = [*self.fused, *(graph.get_submodule(str(n.target)) for n in calls)]
        within = {module, *(m for each in called for m in each.modules())}
        self.uncalled = [m for m in module.modules() if m not in within]
        # Gates can be asked in a pass that is repeated, and all else cannot.
        gates = [cast(nn.Module, m.gate) for m in self.fused if isinstance(m, _Dynamic)]
        asked = {m for gate in gates for m in gate.modules()}
        self.hooks = hooks_of({*module.modules(), *within} - asked)
        self.hooks_of_gates = hooks_of(asked)
        read = Counter(id(g.leader) for g in gates if type(g) is FollowerGate)
        # Whose answers are read elsewhere are asked, and hand them on.
        self.are_ours = all(
            type(g) is FollowerGate
            or (isinstance(g.forward, PreparedGate) and getattr(g, "followers", 0) == read[id(g)])
            for g in gates
        )
        self.is_repeatable = all(is_repeatable(node, graph) for node in graph.graph.nodes)

    def compute(self, *given: Any, **named: Any) -> Any:
        self.unchanged.refuse_others()
        # To ask each module takes as long as some convolutions.
        is_hooked = any(self.hooks) or _has_any_global_hook()
        inputs = in_places(self.names, given, named)
        if (
            inputs is None
            or form_of(inputs) != self.form
            or not all(map(is_finite, tree_leaves(inputs)))
            or (is_hooked and self._is_looked_into())
        ):
            return self.plain(*given, **named)
        if is_hooked or not self.is_repeatable:
            return self.run_as_maps(*inputs)
        return self.recorded(*inputs, asks=not self.are_ours or any(self.hooks_of_gates))

    def run_as_maps(self, *inputs: Any) -> Any:
        """The graph."""
        if self.maps is None:
            return self.run(*inputs)
        # What is not fused computes as in training with mixed precision.
        with torch.autocast("cpu", self.maps):
            answer = self.run(*tree_map_only(Tensor, partial(as_maps, self.maps), inputs))
        return tree_map(as_answer, answer)

    def _is_looked_into(self) -> bool:
        """Whether a hook would miss its module, or be shown what a convolution does besides."""
        if _has_any_global_hook():
            return True
        return any(map(has_hooks, self.uncalled)) or any(map(sees_more, self.fused))


def is_finite(x: Any) -> bool:
    """Whether all of a CPU's numbers are, as far as can be asked: oneDNN's ReLU makes zero of what
    is none, and the answer would hide that the input was broken."""
    if type(x) is not Tensor or not x.is_cpu or not x.is_floating_point():
        return True
    if torch._C._are_functorch_transforms_active():
        return True
    return math.isfinite(x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32)))


def hooks_of(modules: Iterable[nn.Module]) -> list[dict]:
    """Where the hooks of each are found, now and later."""
    return [hooks for m in modules for hooks in (m._forward_hooks, m._forward_pre_hooks)]


def is_repeatable(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether what it does is known to depend on numbers in no way that a recording would miss."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        known = type(module).__module__.startswith(("torch.nn.", "vared_mm.fast."))
        return known or isinstance(module.forward, PreparedForward)
    if node.op == "call_function":
        home = str(getattr(node.target, "__module__", None) or "torch").split(".")[0]
        return home in ("torch", "_operator", "builtins", "math", "vared_mm")
    return node.op != "call_method" or node.target not in ("tolist", "numpy")


def sees_more(conv: nn.Module) -> bool:
    """Whether a hook reads what a fused convolution reads and answers; ours read but its size."""
    hooks = (*conv._forward_hooks.values(), *conv._forward_pre_hooks.values())
    return any(getattr(hook, "__module__", None) != observe.__name__ for hook in hooks)


def prepare_part(part: Part, maps: torch.dtype | None) -> None:
    graph = part.graph
    for chain in chains(graph):
        conv = cast(_ConvNd, graph.get_submodule(str(chain.conv.target)))
        norm = None if chain.norm is None else graph.get_submodule(str(chain.norm.target))
        epilogue = Epilogue.of(conv, cast(_BatchNorm | None, norm), chain.relu is not None)
        conv.forward = Exchanged(conv, epilogue, str(chain), maps)
        # Of a convolution that is not prepared no change is refused: its gate has to follow.
        if is_plain_gate(gate := getattr(conv, "gate", None)):
            kind = DeviceGate if is_predicated(gate.weight1) else PreparedGate
            gate.forward = kind(gate)  # type: ignore[method-assign]
        fuse(graph, chain)
    made = fuse_expansions(graph)
    fuse_silu(graph, made.union(n for n in graph.graph.nodes if n.kwargs.get("fused")))
    fuse_squeeze_excite(graph)
    if maps is not None:
        keep_products_exact(graph)
    graph.graph.lint()
    graph.recompile()
    part.module.forward = Traced(part, maps)
