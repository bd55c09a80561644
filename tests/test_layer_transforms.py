"""Folded, written down, compiled or mapped, a convolution answers as itself or is refused."""

import copy
import io
from collections import OrderedDict

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model.efficient_conv_bn_eval import efficient_conv_bn_eval_forward
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.optimization import fuse
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vared_mm.method import DynamicConfig, VaRedConv2d, make_dynamic
from vared_mm.method.errors import DynamicError
from vared_mm.method.observe import forced_gates, record_cost


def fold_by_hand(conv, norm):
    conv.weight = nn.Parameter(2 * conv.weight)


def ask_for_a_product_with_other_weights(conv, norm):
    efficient_conv_bn_eval_forward(norm, conv, torch.randn(1, 3, 5, 5))


FOLDS = {
    "mmcv": lambda conv, norm: fuse_conv_bn(nn.Sequential(conv, norm)),
    "torch": fuse_conv_bn_eval,
    "by hand": fold_by_hand,
    "mmengine, in every pass": ask_for_a_product_with_other_weights,
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("fold", FOLDS.values(), ids=FOLDS)
def test_no_batchnorm_is_folded_into_what_is_not_affine_in_its_weight(fold, bias):
    conv, norm = VaRedConv2d(3, 8, 3, bias=bias).eval(), nn.BatchNorm2d(8).eval()
    before = conv.weight.clone()
    with pytest.raises(DynamicError, match="not affine in its weight"):
        fold(conv, norm)
    assert torch.equal(conv.weight, before)


def test_torch_fx_leaves_a_dynamic_convolution_out_when_it_fuses():
    net = nn.Sequential(VaRedConv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    with pytest.raises(DynamicError, match="torch.fx"):
        fuse(net)


def test_weights_are_loaded_by_assignment_copied_and_reparametrised_as_in_any_convolution():
    conv, other = VaRedConv2d(3, 8, 3).eval(), VaRedConv2d(3, 8, 3).eval()
    x = torch.randn(2, 3, 5, 5)
    conv.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(conv(x), other(x))
    assert torch.equal(torch.func.functional_call(conv, dict(other.named_parameters()), x), conv(x))
    prune.l1_unstructured(conv, "weight", amount=0.5)
    assert (conv.weight == 0).double().mean() == 0.5
    conv(x)
    prune.remove(conv, "weight")
    nn.utils.parametrizations.weight_norm(conv)(x)


@pytest.mark.parametrize("training", [True, False])
def test_cheap_operations_that_are_pruned_count_as_they_are_now(training):
    conv, x = VaRedConv2d(3, 8, 1).train(training), torch.randn(2, 3, 5, 5)
    prune.random_unstructured(conv.cheap.channel, "0", amount=1.0)
    with forced_gates(conv, (0, 1)):
        assert (conv(x)[:, 4:] == 0).all()


def chosen_apart(kind):
    """A network whose gates answer each sample otherwise, and two batches of those."""
    torch.manual_seed(0)
    conv = nn.Conv3d if kind == "clips" else nn.Conv2d
    net = nn.Sequential(conv(3, 8, 3, padding=1), nn.ReLU(), conv(8, 6, 1))
    make_dynamic(net, DynamicConfig(targets=r"(?P<block>)\d", share="block"))
    nn.init.normal_(net[0].gate.weight2, std=3)
    for dynamic in (net[0], net[2]):
        for phi in dynamic.cheap.parameters():
            nn.init.normal_(phi)
    x, other = 3 * torch.randn(2, 6, 3, *(4, 3, 3)[: 3 - (kind == "images")]).double()
    net = net.double().eval()
    with torch.no_grad():
        assert len({tuple(row) for row in (net[0].gate(x) > 0).tolist()}) > 1
    return net, x, other


def by_onnx(net, x):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    file = io.BytesIO()
    dynamic = dict(input_names=["x"], dynamic_axes={"x": {0: "n"}})
    torch.onnx.export(net, (x,), file, dynamo=False, opset_version=17, **dynamic)
    run = reference.ReferenceEvaluator(onnx.load_from_string(file.getvalue()))
    return lambda x: torch.from_numpy(run.run(None, {"x": x.numpy()})[0])


def exported(net, x, **settings):
    sizes = ({0: torch.export.Dim("samples", min=2)},)
    return torch.export.export(net, (x,), dynamic_shapes=sizes, **settings).module()


def by_make_fx(net, x):
    return make_fx(net)(x)


EXPORTS = {
    "jit.trace": lambda net, x: torch.jit.trace(net, x),
    "make_fx": by_make_fx,
    "export": exported,
    "strict export": lambda net, x: exported(net, x, strict=True),
    "ONNX": by_onnx,
    "vmap": lambda net, x: torch.func.vmap(lambda one: net(one[None])[0]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["clips", "images"])
@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
@pytest.mark.parametrize("gradients", [True, False])
def test_what_is_written_down_or_mapped_answers_other_samples_that_choose_otherwise(
    export, kind, gradients
):
    net, x, other = chosen_apart(kind)
    with torch.set_grad_enabled(gradients):
        run = export(net, x)
        for clips in (x, other, other[:2]):
            # A graph of a batch of six, made with its size.
            if export is not by_make_fx or len(clips) == 6:
                torch.testing.assert_close(run(clips), net(clips), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_an_exported_program_needs_no_operator_of_ours(training):
    net, x, _ = chosen_apart("clips")
    program = torch.export.export(net.train(training), (x,))
    assert not any("vared" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("share", ["conv", "block"])
def test_a_training_step_compiles_without_a_break_and_has_the_same_gradients(share):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 6, 1)
    ).double()
    make_dynamic(net, DynamicConfig(targets=r"(?P<block>)\d", share=share))
    x, twin = torch.randn(2, 3, 4, 5, 5).double(), copy.deepcopy(net)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    expected, came = net(x), compiled(x)
    torch.testing.assert_close(came, expected, rtol=1e-10, atol=1e-10)
    grads = [
        torch.autograd.grad(out.square().sum(), list(one.parameters()))
        for out, one in ((came, twin), (expected, net))
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_a_compiled_network_answers_as_the_plain_one_and_is_watched_and_forced(training):
    torch.manual_seed(0)
    net = nn.Sequential(VaRedConv2d(3, 8, 3), nn.ReLU(), VaRedConv2d(8, 4, 3)).train(training)
    compiled, x = torch.compile(net, backend="eager"), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(compiled(x), net(x))
    with forced_gates(net, (0, 0.5)), record_cost(net) as record:
        torch.testing.assert_close(compiled(x), net(x))
    assert record.share(2).tolist() == [0.5, 0.5]
    assert len(record.seen) == 4


def test_torch_func_differentiates_as_backward_does():
    net, x, _ = chosen_apart("clips")
    by_func = torch.func.grad(lambda x: net(x).square().sum())(x)
    net(x.requires_grad_()).square().sum().backward()
    torch.testing.assert_close(by_func, x.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("part", ["fc", "cheap", "beta"])
@pytest.mark.parametrize("by", [torch.func.grad, torch.func.jacrev])
def test_torch_func_differentiates_by_some_parameters_alone(part, by):
    body, x, _ = chosen_apart("images")
    net = nn.Sequential(OrderedDict(body=body, flat=nn.Flatten(), fc=nn.Linear(6 * 12, 2).double()))
    some = {key: p for key, p in net.named_parameters() if part in key}
    found = by(lambda some: torch.func.functional_call(net, some, x).square().sum())(some)
    net(x).square().sum().backward()
    for key, parameter in some.items():
        torch.testing.assert_close(found[key], parameter.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("part", ["cheap", "beta", "0.weight"])
def test_derivatives_that_are_carried_forward_are_those_of_backward(part, gradients):
    net, x, _ = chosen_apart("images")
    # Kernels take float32; open at the start, no gate has the gradient of a closed one.
    net, x = net.float(), x.float()
    nn.init.zeros_(net[0].gate.weight2)
    some = {key: p for key, p in net.named_parameters() if part in key}
    with torch.set_grad_enabled(gradients), forward_ad.dual_level():
        dual = {k: forward_ad.make_dual(p.detach(), torch.ones_like(p)) for k, p in some.items()}
        came = forward_ad.unpack_dual(torch.func.functional_call(net, dual, x)).tangent.sum()
    found = torch.autograd.grad(net(x).sum(), [*some.values()])
    torch.testing.assert_close(came, sum(g.sum() for g in found), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", [torch.fx.symbolic_trace, torch.jit.script])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_who_knows_neither_sizes_nor_numbers_is_told_what_would_do(way, training):
    with pytest.raises(DynamicError, match=r"torch\.export\.export and torch\.jit\.trace serve"):
        way(VaRedConv2d(3, 8, 3).train(training))
