"""Compiles every Triton kernel for an H100, which takes no GPU. A test runs it as a script.

The kernels are called as in a network, with the first of their block sizes; a stand-in for the
driver names the target, and they are compiled where they would run. Prints their names.
"""

import torch
from convolutions import make_case
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from vared_mm.fast.epilogue import Epilogue
from vared_mm.fast.gpu.device_gate import DeviceGate
from vared_mm.fast.gpu.predicated_conv import PredicatedConv, kernels
from vared_mm.fast.packed_conv import as_channels_last


class Driver:
    """Of a GPU that is not here."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0


def compile_instead_of_running():
    run = JITFunction.run

    def compile_alone(self, *args, warmup=False, **words):
        binary = run(self, *args, warmup=True, **words)
        assert binary.asm["cubin"]
        print(self.__name__)

    JITFunction.run = compile_alone
    driver.set_active(Driver())
    for kernel in (kernels().compute, kernels().rebuild_channels, kernels().rebuild_frames):
        kernel.configs = kernel.configs[:1]


@torch.no_grad()
def main():
    compile_instead_of_running()
    for name, dtype in (("3x3x3, space 3", torch.bfloat16), ("depthwise of X3D", torch.float32)):
        conv, _, x = make_case(name, dtype)
        x = as_channels_last(x)
        gates = DeviceGate(conv.gate.eval())(x)
        PredicatedConv(conv, Epilogue.of(conv, None, relu=True)).run(x, gates, None)


main()
