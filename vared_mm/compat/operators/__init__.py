"""Plain-torch versions of the mmcv operators that our tasks call.

Each function takes the arguments that mmcv's Python wrappers hand to the compiled function of the
same name, so the wrappers (and the gradients they define) run unchanged on top of it.
"""

from .focal_loss import sigmoid_focal_loss_backward, sigmoid_focal_loss_forward
from .nms import nms, softnms
from .roi_align import roi_align_backward, roi_align_forward

PLAIN = {
    function.__name__: function
    for function in (
        nms,
        softnms,
        roi_align_forward,
        roi_align_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
    )
}

__all__ = ["PLAIN"]
