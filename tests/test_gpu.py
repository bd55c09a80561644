"""The same promises on a GPU; skipped where there is none."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import toy
from convolutions import CASES, expected_output, gates_of, make_case, patterns
from mmengine.registry import MODELS
from mmengine.runner import Runner
from test_fast_prepare import assert_close, lively

import vared_mm  # noqa: F401
from vared_mm.fast import prepare_for_inference
from vared_mm.fast.gpu.captured import Captured
from vared_mm.fast.gpu.predicated_conv import PredicatedConv
from vared_mm.method.observe import dynamic_convs, forced_gates

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here"),
    pytest.mark.usefixtures("_exact_products"),
]


@pytest.mark.parametrize("name", CASES)
def test_both_forms_follow_the_equations_in_float64(name):
    dynamic, plain, x = make_case(name, samples=2)
    for pattern in patterns(dynamic):
        gates = gates_of(pattern)
        expected = expected_output(dynamic.cpu(), plain.cpu(), x, gates)
        dynamic.cuda()
        with forced_gates(dynamic, gates), torch.no_grad():
            trained, evaluated = dynamic.train()(x.cuda()), dynamic.eval()(x.cuda())
        assert (trained.cpu() - expected).abs().max() < 1e-10, pattern
        assert (evaluated.cpu() - expected).abs().max() < 1e-10, pattern


@pytest.mark.parametrize("name", CASES)
def test_a_sample_s_result_does_not_depend_on_its_batch(name):
    dynamic, _, x = make_case(name, samples=8)
    dynamic.cuda().eval()
    x = x.cuda()
    with torch.no_grad():
        alone = torch.cat([dynamic(sample[None]) for sample in x])
        assert (dynamic(x) - alone).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_trains_and_closes_gates(tmp_path, dtype):
    hook = dict(type="EfficiencyLossHook", correct="always", ramp=0.0, weight=5.0)
    amp = dict(type="AmpOptimWrapper", dtype=dtype, loss_scale="dynamic",
               optimizer=dict(type="SGD", lr=0.05))  # fmt: skip
    settings = toy.runner_settings(
        tmp_path, dynamic={}, hooks=[hook, dict(type="CostHook")], optim_wrapper=amp, epochs=4
    )
    runner = Runner(**settings)
    runner.train()
    beta = runner.model.backbone[1].gate.beta
    assert torch.isfinite(beta).all()
    assert (beta[[0, 2]] < 0.75).all()


def test_torchrun_trains_through_nccl(tmp_path):
    script = Path(__file__).with_name("distributed_run.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    subprocess.run([*command, str(script), str(tmp_path), "nccl"], check=True, timeout=200)
    assert (tmp_path / "result.json").exists()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    # Clips of unlike contents, so that gates have something to tell apart.
    x = torch.stack([scale * torch.randn(3, 8, 40, 40) + scale for scale in (-1.5, 0.5, 1.5)])
    settings = dict(type="VaRedR2Plus1d18", base_channels=8, dynamic=dict(search_space=3))
    return lively(MODELS.build(settings), x).cuda(), x.cuda()


@torch.no_grad()
def test_a_prepared_network_never_waits_for_the_gpu(network):
    model, x = network
    prepared = prepare_for_inference(model, x)
    for conv in dynamic_convs(prepared).values():
        assert isinstance(conv.forward.run, PredicatedConv)
    torch.cuda.set_sync_debug_mode("error")
    try:
        came = prepared(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(came, model(x))


@torch.no_grad()
def test_a_recorded_network_answers_each_batch_by_the_choices_of_its_own_samples(network):
    model, x = network
    run = Captured(prepare_for_inference(model, x))
    for clips in (x, x.flip(0), -x, x[:2], x[..., :-3]):
        assert_close(run(clips), model(clips))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_prepared_network_in_half_precision_is_off_by_what_that_holds(network, dtype):
    model, x = network
    half = copy.deepcopy(model).to(dtype)
    with forced_gates(model, (0.0, 0.7, 0.0) * 2):
        expected = model(x)
    prepared = prepare_for_inference(half, x.to(dtype))
    with forced_gates(prepared, (0.0, 0.7, 0.0) * 2):
        came = prepared(x.to(dtype))
    assert (came.float() - expected).abs().max() < 0.1 * expected.abs().max()
