"""Which convolutions of which backbone become dynamic when a config does not say.

The paper's tables and figures fix the choice for its own networks: Figure 4 and Table 1 for
R(2+1)D, the per-block policy of Figure 3 for X3D. I3D is dynamic from its stem on: the Inception
blocks are 30 % of its MACs, and Table 2 saves 53 %. The others follow R(2+1)D: the convolutions of
the stages, no stem, no shortcut, nothing that fuses branches.
"""

from __future__ import annotations

from typing import Any

# ".net" and ".block" are what wraps a convolution, a block or a stage, as temporal shifts do.
RESIDUAL = {
    "targets": r"layer\d+(\.net)?\.\d+(\.block|\.net)?\.convs?\d?(\.\d)?(\.conv)?(\.net2?)?"
}
INVERTED_RESIDUAL = {
    "targets": r"layer\d+\.\d+\.(conv\.\d(\.net)?|(expand|depthwise|linear)_conv)\.conv"
}
BOTH_FACTORS = {"targets": r"layer\d\.\d\.(conv\d|downsample)\.(spatial|temporal)\.conv"}
FACTORED = {"targets": r"layer\d\.\d\.conv\d\.spatial\.conv"}

# Backbone: settings of `DynamicConfig` that its "VaRed" form starts from.
PRESETS: dict[str, dict[str, Any]] = {
    "InceptionI3d": {"targets": r"(conv\w+|mixed_\w+\.branch_\d\.\d)\.conv"},
    "R2Plus1d18": FACTORED,
    "CorrNet": FACTORED,
    "ResNet2Plus1d": {"targets": r"layer\d+\.\d+\.conv\d\.conv\.conv_s"},
    "X3D": {"targets": r"(?P<block>layer\d+\.\d+)\.conv[123]\.conv", "share": "block"},
    "ResNet3d": RESIDUAL,
    "ResNet3dSlowOnly": RESIDUAL,
    "ResNet3dCSN": RESIDUAL,
    "ResNet3dSlowFast": {"targets": r"(slow|fast)_path\." + RESIDUAL["targets"]},
    "C2D": RESIDUAL,
    "C3D": {"targets": r"conv[2-5][ab]\.conv"},
    "ResNet": RESIDUAL,
    "ResNetTSM": RESIDUAL,
    "TANet": RESIDUAL,
    "Res2Net": RESIDUAL,
    "ResNeSt": RESIDUAL,
    "RegNet": RESIDUAL,
    "ResNetV1c": RESIDUAL,
    "ResNetV1d": RESIDUAL,
    "ResNeXt": RESIDUAL,
    "Darknet": {"targets": r"conv_res_block\d\.(res\d+\.conv\d|conv)\.conv"},
    "CSPDarknet": {"targets": r"stage\d\..*conv"},
    "MobileNetV2": INVERTED_RESIDUAL,
    "MobileNetV2TSM": INVERTED_RESIDUAL,
    # Its strided depthwise convolutions pad by the input's size and stay as they are.
    "MobileNetV3": {"targets": r"layer\d+\.(expand|linear)_conv\.conv"},
    "HRNet": {"targets": r"layer1\.\d\.conv\d|stage\d\.\d\.branches\.\d\.\d\.conv\d"},
    "UNet": {"targets": r"(encoder|decoder)\.\d\.(\d|conv_block)\.convs\.\d\.conv"},
}

# What the rivals' forms start from: both factors of a convolution, and nothing shared in a block.
# What they cannot serve, as CGNet a stem of three channels, stays plain.
RIVAL_PRESETS: dict[str, dict[str, Any]] = {
    **PRESETS,
    "R2Plus1d18": BOTH_FACTORS,
    "CorrNet": BOTH_FACTORS,
    "X3D": {"targets": r"layer\d+\.\d+\.conv[13]\.conv"},
}
