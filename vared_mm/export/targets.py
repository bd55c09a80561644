"""The formats that a network is written in, and the engines that run them.

Engines run in the precision that they choose by themselves; in float32,
a file can be told from a wrong one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from vared_mm.export.flat_conv import flattened
from vared_mm.fast import engines
from vared_mm.fast.engines import EngineError, Run

# Of 2022; ONNX Runtime has it from 1.14 on, and it is all that our networks need.
OPSET = 18
INPUT, OUTPUT = "inputs", "scores"


@dataclass(frozen=True)
class Target:
    """A format and its engine.

    Args:
        write: The network, an example and where to. Of two samples, the file takes batches of
            any size; of one, that size alone.
        load: What runs a file.
        exact: The same in float32.
        run: What runs a network in memory, for one size, as layers are timed.
        packages: What it needs.
    """

    engine: str
    suffix: str
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path], Run]
    exact: Callable[[Path], Run]
    run: Callable[[Any, Tensor], Run]
    precision: Callable[[], torch.dtype] = lambda: torch.float32
    packages: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuses a target whose packages are not installed."""
        with needed(*self.packages):
            for package in self.packages:
                import_module(package)


class ExportError(ValueError):
    """A network cannot be exported."""


def write_onnx(network: nn.Module, example: Tensor, path: Path) -> None:
    with needed("onnx", "onnxscript"):  # Of another target, a single size is written so too.
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    # It tells four times that torchvision, which nothing here needs, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    # And of every branch that it cannot be folded.
    logging.getLogger("onnxscript.optimizer._constant_folding").setLevel(logging.ERROR)
    with refused(network):
        torch.onnx.export(
            flattened(network), (example,), path, dynamo=True, opset_version=OPSET,
            external_data=False, dynamic_shapes=batches(example), input_names=[INPUT],
            output_names=[OUTPUT], verbose=False,
        )  # fmt: skip


def load_onnx(path: Path) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    # Errors alone: it warns of every weight that a branch does not use.
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {INPUT: x.numpy()})[0])


def run_onnx(network: nn.Module, example: Tensor) -> Run:
    return engines.onnxruntime(flattened(network), example)


def write_openvino(network: nn.Module, example: Tensor, path: Path) -> None:
    import openvino as ov

    if len(example) == 1:
        # What chooses by torch.cond, which is `If` in ONNX.
        with TemporaryDirectory() as folder, refused(network):
            written = Path(folder) / "network.onnx"
            write_onnx(network, example, written)
            model = ov.convert_model(written)
    else:
        with refused(network):
            model = ov.convert_model(exported(network, example))
            # It takes every size of an exported program for unknown, and not the batch alone.
            model.reshape([-1, *example.shape[1:]])
            model.inputs[0].set_names({INPUT})
            model.outputs[0].set_names({OUTPUT})
    ov.save_model(model, path, compress_to_fp16=False)


def load_openvino(path: Path, precision: str | None = None) -> Run:
    run = engines.answers_of(engines.compiled_for_latency(path, precision))
    return lambda x: run(x).clone()


def openvino_precision() -> torch.dtype:
    return torch.bfloat16 if engines.has_bfloat16() else torch.float32


def write_torch(network: nn.Module, example: Tensor, path: Path) -> None:
    with refused(network):
        torch.export.save(exported(network, example), path)


def load_torch(path: Path) -> Run:
    return torch.export.load(path).module()


TARGETS = {
    "onnx": Target(
        "ONNX Runtime", ".onnx", write_onnx, load_onnx, load_onnx, run_onnx,
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": Target(
        "OpenVINO", ".xml", write_openvino, load_openvino, partial(load_openvino, precision="f32"),
        partial(engines.openvino, precision=None), openvino_precision, ("openvino",),
    ),
    "torch": Target("torch", ".pt2", write_torch, load_torch, load_torch, engines.eager),
}  # fmt: skip


def exported(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(network, (example,), dynamic_shapes=batches(example))


def batches(example: Tensor) -> tuple | None:
    return ({0: torch.export.Dim("batch")},) if len(example) > 1 else None


@contextmanager
def refused(network: nn.Module) -> Iterator[None]:
    """Whatever an exporter raises, as an `ExportError`."""
    try:
        with torch.no_grad(), warnings.catch_warnings(), engines.logging_kept():
            # What torch's exporters warn of in torch, and of sizes, which a file is for.
            for kind in (FutureWarning, DeprecationWarning, torch.jit.TracerWarning):
                warnings.simplefilter("ignore", kind)
            yield
    except (EngineError, ExportError, OSError):
        raise
    except Exception as error:
        model = getattr(network, "model", network)
        told = " ".join(str(error).split())[:300]
        raise ExportError(
            f"{type(model).__name__} cannot be exported: {type(error).__name__}: {told}. A graph "
            "has no place for what depends on numbers of the input, or is no operation of torch: "
            "leave that out of the model; vared_mm.fast.prepare_for_inference runs it in torch"
        ) from error


needed = partial(engines.needed, extra="export")
