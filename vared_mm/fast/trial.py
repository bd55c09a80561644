"""Each graph beside the `forward` that it was traced from, for the example, before anything else is
done with it: what a trace took for granted shows there.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from vared_mm.fast.forms import form_of, in_places, names_needed
from vared_mm.fast.kept import Kept
from vared_mm.fast.same_answers import answers_by, copied, refuse_other_answers
from vared_mm.fast.tracing import parts_within, traced_parts
from vared_mm.method.gate import HandsOn


class Part(NamedTuple):
    """A module with its graph, and the form of the inputs for which both answered the same."""

    module: nn.Module
    graph: fx.GraphModule
    form: tuple


def tried_parts(model: nn.Module, example: tuple, call: dict[str, Any]) -> list[Part]:
    """The largest parts whose graph answers as they do when the model is called with the example,
    by any choices of its gates. What is not reached then is none."""
    found: list[Part] = []
    gates = [m for m in model.modules() if isinstance(m, HandsOn)]
    todo = dict(traced_parts(model))
    while todo:
        trials = [Trial(*each, gates) for each in todo.items()]
        with standing_in(trials):
            for _ in answers_by(model, example, call):
                if all(trial.form for trial in trials):
                    break
        todo = {}
        for trial in trials:
            if trial.form and not trial.fault:
                found.append(Part(trial.module, trial.graph, trial.form))
            else:
                # Of one that is not called itself, others may call the parts.
                told = (
                    type(trial.module).__name__,
                    trial.fault or "it is called in another way, if at all",
                )
                logging.getLogger(__name__).info("%s is prepared by its parts: %s", *told)
                todo |= parts_within(trial.module)
    return found


class Trial:
    """The `forward` of a module that was traced, as it is; the graph is tried beside it once."""

    def __init__(self, module: nn.Module, graph: fx.GraphModule, gates: list[HandsOn]) -> None:
        self.module, self.graph, self.own, self.gates = module, graph, module.forward, gates
        self.names = names_needed(module)
        self.fault = ""
        self.form: tuple | None = None  # Of the inputs that were tried.

    def __call__(self, *given: Any, **named: Any) -> Any:
        inputs = in_places(self.names, given, named)
        form = None if inputs is None else form_of(inputs)
        if self.form or form is None:
            return self.own(*given, **named)
        self.form = form
        # The forward may draw, and gates hand on what other parts read.
        drawing, before = torch.get_rng_state(), [dict(gate.handed_on) for gate in self.gates]
        copies, kept = copied(inputs), Kept(self.module)
        answer = self.own(*given, **named)
        try:
            if kept.is_written():
                raise ValueError("its forward writes into a tensor that it keeps")
            with torch.random.fork_rng(devices=[]), handed_on(self.gates, before):
                torch.set_rng_state(drawing)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    came = self.graph.forward(*copies)  # By a call it prints what went wrong.
            refuse_other_answers({None: (came, copies)}, {None: (answer, inputs)})
        except Exception as error:
            # Whatever the graph does with inputs that it was not traced with.
            self.fault = f"{type(error).__name__}: {error}"
        return answer


@contextmanager
def handed_on(gates: list[HandsOn], before: list[dict[str, Any]]) -> Iterator[None]:
    """What gates have handed on is within what it was before."""
    after = [dict(gate.handed_on) for gate in gates]
    try:
        put_back(gates, before)
        yield
    finally:
        put_back(gates, after)


def put_back(gates: list[HandsOn], states: list[dict[str, Any]]) -> None:
    for gate, state in zip(gates, states, strict=True):
        gate.handed_on.clear()
        gate.handed_on.update(state)


@contextmanager
def standing_in(trials: list[Trial]) -> Iterator[None]:
    for trial in trials:
        trial.module.forward = trial
    try:
        yield
    finally:
        for trial in trials:
            del trial.module.forward
