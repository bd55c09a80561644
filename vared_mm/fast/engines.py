"""The ways to run a network that a user could pick, each a function of (network, example)."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from vared_mm.fast.gpu.captured import Captured
from vared_mm.fast.prepare import prepare_for_inference
from vared_mm.fast.same_answers import tensors_in
from vared_mm.tensor_form import call_of

Run = Callable[[Tensor], Tensor]


class EngineError(RuntimeError):
    """An engine is not installed, or cannot take this network."""


class Network(nn.Module):
    """A whole OpenMMLab model, or a backbone, as a function from inputs to its first output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.training, self.call = model, model.training, call_of(model)

    def forward(self, x: Tensor) -> Tensor:
        return next(tensors_in(self.model(x, **self.call)))


def eager(network: nn.Module, example: Tensor) -> Run:
    return network


def prepared(network: Network, example: Tensor, precision: str = "float32") -> Network:
    return cast(Network, prepare_for_inference(network, example, precision=precision))


def captured(network: Network, example: Tensor) -> Run:
    """As prepared, replayed from a CUDA graph."""
    return Captured(prepared(network, example))


def compiled_network(network: Network, example: Tensor) -> Run:
    """torch.compile, weights frozen; on a GPU replayed from CUDA graphs."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    torch._dynamo.reset()
    return torch.compile(network, mode="reduce-overhead" if example.is_cuda else None)


def onnxruntime(network: nn.Module, example: Tensor) -> Run:
    with needed("onnxruntime", extra="speed"):
        import onnx  # noqa: F401  (the exporter wants it)
        import onnxruntime as ort
    refuse_half("onnxruntime", example)
    file = io.BytesIO()
    # The newer exporter would want onnxscript too.
    torch.onnx.export(network, (example,), cast(Any, file), dynamo=False, opset_version=17)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    cuda = ["CUDAExecutionProvider"] if example.is_cuda else []
    providers = [*cuda, "CPUExecutionProvider"]
    session = ort.InferenceSession(file.getvalue(), options, providers=providers)
    (source,) = session.get_inputs()
    return lambda x: torch.from_numpy(session.run(None, {source.name: x.cpu().numpy()})[0])


def openvino(network: nn.Module, example: Tensor, precision: str | None = "f32") -> Run:
    """Left to itself, with None, it takes bfloat16 where the processor has it."""
    return answers_of(compiled_openvino(network, example, precision))


def answers_of(compiled: Any) -> Run:
    """What OpenVINO's `CompiledModel` answers, in memory that its next answer takes over."""
    request = compiled.create_infer_request()
    return lambda x: torch.from_numpy(next(iter(request.infer([x.numpy()]).values())))


def compiled_openvino(
    network: nn.Module, example: Tensor, precision: str | None = "f32", **more: Any
) -> Any:
    """OpenVINO's `CompiledModel`.

    Args:
        more: Settings of its CPU plugin.
    """
    with needed("openvino", extra="speed"):
        import openvino as ov
    refuse_half("openvino", example)
    if example.is_cuda:
        raise EngineError("openvino is compared on the CPU alone; leave it out of --against")
    with warnings.catch_warnings(), logging_kept():
        # Its shapes are those of every input to come.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = ov.convert_model(network, example_input=example)
    # Its own best case: a size that is known when it compiles.
    model.reshape(list(example.shape))
    if precision == "bf16" and not has_bfloat16():
        raise EngineError("openvino has no bfloat16 on this processor; leave it out of --against")
    return compiled_for_latency(model, precision, **more)


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in it on this processor."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compiled_for_latency(model: Any, precision: str | None, **more: Any) -> Any:
    """Of a model of OpenVINO's, or a file; otherwise as `compiled_openvino`."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", **more}
    settings["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    return openvino_core().compile_model(model, "CPU", settings)


@contextmanager
def logging_kept() -> Iterator[None]:
    """Around OpenVINO's conversion: where that fails, it leaves the root logger with errors alone,
    and no warning of anybody would be told after it."""
    root = logging.getLogger()
    level, filters, handlers = root.level, [*root.filters], [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


@cache
def openvino_core() -> Any:
    """The one of this process, which is never freed: of several, the one that is freed last leaves
    the process the signal stack of another, and the next end of a child or Ctrl-C is a segmentation
    fault (OpenVINO 2026.4)."""
    import openvino as ov

    return ov.Core()


# Those that can run a dynamic network, and keep its gates where `forced_shares` finds them. A CUDA
# graph is recorded of what they run, once for each answer that is forced.
ENGINES: dict[str, Callable[[Network, Tensor], Network]] = {
    "plain": lambda network, example: network,
    "prepared": prepared,
    "prepared-bf16": partial(prepared, precision="bfloat16"),
    "captured": prepared,
}
RIVALS: dict[str, Callable[[Network, Tensor], Run]] = {
    "eager": eager,
    "captured": captured,
    "compile": compiled_network,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "openvino-bf16": partial(openvino, precision="bf16"),
}
# Of those that do not run in the precision of their inputs.
OTHER_PRECISIONS = {"prepared-bf16": torch.bfloat16, "openvino-bf16": torch.bfloat16}


@contextmanager
def taken(engine: str, model: nn.Module) -> Iterator[None]:
    """Whatever another engine raises of a network, as an `EngineError`."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        raise EngineError(
            f"{engine} cannot take this {type(model).__name__}: {type(error).__name__}: {told}. "
            "Leave it out of --against"
        ) from error


def refuse_half(engine: str, example: Tensor) -> None:
    if example.dtype != torch.float32:
        raise EngineError(f"{engine} is compared in float32 alone; it came with {example.dtype}")


@contextmanager
def needed(*packages: str, extra: str) -> Iterator[None]:
    """Around their imports: what is missing is told with the extra that it is part of."""
    try:
        yield
    except ImportError as error:
        raise EngineError(
            f"{' and '.join(packages)} cannot be imported ({error}); "
            f"pip install 'vared_mm[{extra}]'"
        ) from error
