"""A checkpoint that is not the model's is refused, where mmengine only logs what does not fit."""

import os
import pickle
import re

import pytest
import torch
import toy
from torch import nn

from vared_mm import weights
from vared_mm.method.gate import Gate
from vared_mm.runners import TrainingRunner
from vared_mm.weights import load_weights


def model(**dynamic):
    return toy.ToyRecognizer(dynamic=dynamic or None)


def test_a_static_checkpoint_loads_into_the_dynamic_model(tmp_path):
    static, dynamic = model(), model(search_space=2)
    torch.nn.init.constant_(static.cls_head.bias, 7)
    gates = [gate.beta.clone() for gate in dynamic.modules() if isinstance(gate, Gate)]
    torch.save(dict(state_dict=static.state_dict()), tmp_path / "static.pth")
    load_weights(dynamic, str(tmp_path / "static.pth"))
    assert dynamic.cls_head.bias.tolist() == [7, 7, 7]
    after = [gate.beta for gate in dynamic.modules() if isinstance(gate, Gate)]
    assert all(map(torch.equal, after, gates))


def other_head():
    state = model(search_space=2).state_dict()
    return dict(state, **{"cls_head.weight": torch.ones(400, 8)})


def gates_of_one_layer():
    state = model(search_space=2).state_dict()
    return {k: v for k, v in state.items() if not k.startswith(("backbone.1.g", "backbone.1.c"))}


def without(*ends):
    return {k: v for k, v in model(search_space=2).state_dict().items() if not k.endswith(ends)}


def with_more(**more):
    return model(search_space=2).state_dict() | more


STATES = {
    "other shape": (other_head, r"1 weights do not fit, as size mismatch for cls_head.weight: "
                    r".*\[400, 8\]\) from checkpoint, .* is torch.Size\(\[3, 8\]"),
    "other statistics": (lambda: with_more(**{"backbone.2.running_mean": torch.ones(4)}),
                         "1 weights do not fit, as size mismatch for backbone.2.running_mean"),
    "no statistics": (lambda: without("2.running_mean", "2.running_var"),
                      "2 weights are missing there, as backbone.2.running_mean"),
    "other network": (lambda: {"a": torch.ones(1)}, "12 weights are missing there, as backbone.0"),
    "other project": (lambda: {"model_state": model().state_dict(), "epoch": 3},
                      r"other.pth is no checkpoint \(ValueError: it holds no weights\)"),
    "deeper network": (lambda: with_more(**{"backbone.5.weight": torch.ones(8, 8)}),
                       "1 weights have no place here, as backbone.5.weight"),
    "fewer gates": (gates_of_one_layer, "weights are missing there, as backbone.1.gate.weight1"),
    "other space": (lambda: model(search_space=3).state_dict(), "does not fit: the checkpoint's "
                    ".*gate.* trained with other settings"),
}  # fmt: skip


@pytest.mark.parametrize(("state", "message"), STATES.values(), ids=STATES)
def test_the_checkpoint_of_another_network_is_refused(tmp_path, state, message):
    torch.save(state(), tmp_path / "other.pth")
    with pytest.raises(SystemExit, match=message):
        load_weights(model(search_space=2), str(tmp_path / "other.pth"))


def test_a_dynamic_checkpoint_does_not_answer_without_its_gates(tmp_path):
    torch.save(dict(state_dict=model(search_space=2).state_dict()), tmp_path / "dynamic.pth")
    with pytest.raises(
        SystemExit, match=r"the config's has no backbone.1.gate.*: without its gates"
    ):
        load_weights(model(), str(tmp_path / "dynamic.pth"))


def left_behind():
    state = with_more(**{"auxiliary_head.weight": torch.ones(2, 2)})
    return {k: v for k, v in state.items() if not k.endswith("2.num_batches_tracked")}


def nan_head():
    return with_more(**{"cls_head.bias": torch.full((3,), torch.nan)})


@pytest.mark.parametrize(("state", "word"), [
    (left_behind, "left out auxiliary_head, which the config's network lacks"),
    (nan_head, "holds NaN or infinite numbers in 1 weights, as cls_head.bias"),
    (lambda: model().state_dict(), "is of the static network: the gates .* are not trained"),
])  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_fits_in_part_is_loaded_with_a_word(tmp_path, monkeypatch, state, word, prefix):
    told = []
    monkeypatch.setattr(weights, "print_log", lambda text, *how: told.append(text))
    theirs = {f"{prefix}{name}": value for name, value in state().items()}
    torch.save(dict(state_dict=theirs), tmp_path / "some.pth")
    own = model(search_space=2)
    nn.init.zeros_(own.cls_head.weight)
    load_weights(own, str(tmp_path / "some.pth"))
    assert torch.equal(own.cls_head.weight, theirs[f"{prefix}cls_head.weight"])
    (line,) = told
    assert re.search(word, line)


@pytest.mark.parametrize(("content", "said"), [
    (b"", r"is no checkpoint \("), (b"PK\x03\x04 cut short", "is no whole checkpoint: its end is"),
])  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content, said):
    (tmp_path / "no.pth").write_bytes(content)
    with pytest.raises(SystemExit, match=f"no.pth {said}"):
        load_weights(model(), str(tmp_path / "no.pth"))


@pytest.mark.parametrize(("write", "said"), [
    (lambda file: file.write_text("# A page of text\n"), "torch.save did not write it"),
    (lambda file: file.write_text("config = 1\nname\n"), "torch.save did not write it"),
    (lambda file: file.write_bytes(pickle.dumps([1], 4)), "torch.save did not write it"),
    (lambda file: torch.jit.script(nn.Linear(1, 1)).save(file), "torch.save did not write it"),
    (lambda file: torch.save(nn.Linear(1, 1), file), r"objects .*, as torch\.\S+\.Linear, whi"),
    (lambda file: torch.save(dict(a=torch.ones(1), f=print), file), "objects .*, as print, which"),
    (lambda file: torch.save(os.system, file), r"objects .*, as \w+\.system, which are not loaded"),
], ids=["text", "text like code", "pickle", "script", "module", "function", "command"])  # fmt: skip
def test_nobody_is_told_to_run_what_a_file_holds(tmp_path, write, said):
    write(tmp_path / "no.pth")
    run = TrainingRunner(
        **toy.runner_settings(tmp_path / "run", hooks=[dict(type="CostHook")]),
        load_from=str(tmp_path / "no.pth"),
    )
    for read in (lambda: load_weights(model(), str(tmp_path / "no.pth")), run.train):
        with pytest.raises(SystemExit, match=f"no.pth .*{said}") as ended:
            read()
        assert "weights_only" not in str(ended.value)


def test_a_missing_checkpoint_is_named():
    with pytest.raises(SystemExit, match="there is no checkpoint nowhere.pth"):
        load_weights(model(), "nowhere.pth")
