"""Kernels of our own: the only place with C++ and Triton, compiling and loading.

To import it is to give the operators of `vared_mm.method` their forms for a CPU. Prepared networks
(`vared_mm.fast`) call the same kernels without an operator, whose dispatch costs small maps more
than what is computed.
"""

from vared_mm.kernels import decide as decide
from vared_mm.kernels import rebuild as rebuild
