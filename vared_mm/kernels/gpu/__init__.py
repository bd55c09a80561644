"""Triton kernels that read each sample's choices on the device, and compute what it needs.

Symbols as in `vared_mm.method.equations`: k channels and every R-th frame are computed. Three
kernels follow each other; each finds out by itself what a sample needs of it, and a program whose
place nobody needs ends at once:

    compute           the computed part of Y; finished in `out` where nothing is rebuilt from it
    rebuild_channels  Y_c of the computed frames: in `z`, or finished in `out` if all are computed
    rebuild_frames    all frames, finished in `out`

Finished is activate(scale · Y + shift + other). Maps lie channels last, an image is a clip of one
frame; the maps in between, `y` and `z`, have the shape of `out`, and nothing is made of
places that nobody needs. Sums are in float32. An axis that a convolution lacks has one path, open
at 1. A gate that is NaN cannot be refused here: it counts as open, and its sample becomes NaN.

`decide` answers for a gate. No speed has been measured yet: the block sizes that are tried, and
the split in three, follow from what the kernels read and write.
"""

from vared_mm.kernels.gpu.choices import INTERPRETED, programs
from vared_mm.kernels.gpu.compute import compute
from vared_mm.kernels.gpu.decide import decide
from vared_mm.kernels.gpu.rebuild import rebuild_channels, rebuild_frames

__all__ = ["INTERPRETED", "compute", "decide", "programs", "rebuild_channels", "rebuild_frames"]
