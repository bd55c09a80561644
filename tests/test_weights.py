"""A checkpoint that is not the model's is refused, where mmengine only logs what does not fit."""

import pytest
import torch
import toy

from vared_mm.method.gate import Gate
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


STATES = {
    "other shape": (other_head, r"1 of 24 weights do not fit; cls_head.weight is \(3, 8\) here and"
                    r" \(400, 8\) there"),
    "other network": (lambda: {"a": torch.ones(1)}, "10 of 10 weights .* missing there"),
    "other project": (lambda: {"model_state": model().state_dict(), "epoch": 3},
                      "10 of 10 weights .* missing there"),
    "fewer gates": (gates_of_one_layer, r"backbone.1.gate.weight1 is \(16, 4\) here and missing"),
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


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "no.pth").write_bytes(content)
    with pytest.raises(SystemExit, match=r"no.pth is no checkpoint \("):
        load_weights(model(), str(tmp_path / "no.pth"))


def test_a_missing_checkpoint_is_named():
    with pytest.raises(SystemExit, match="there is no checkpoint nowhere.pth"):
        load_weights(model(), "nowhere.pth")
