"""`VaRedX` is X with dynamic convolutions, for the backbones of three toolboxes."""

from importlib import import_module

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import vared_mm  # noqa: F401
from vared_mm.method import NoMatchingModuleError, VaRedConv3d
from vared_mm.method.observe import dynamic_convs, forced_gates
from vared_mm.models.presets import PRESETS

HRNET = {
    f"stage{i + 1}": dict(
        num_modules=1,
        num_branches=i + 1,
        block="BASIC" if i else "BOTTLENECK",
        num_blocks=(1,) * (i + 1),
        num_channels=tuple(8 * 2**j for j in range(i + 1)),
    )
    for i in range(4)
}
R2PLUS1D = dict(
    depth=34,
    pretrained=None,
    pretrained2d=False,
    conv1_kernel=(3, 7, 7),
    norm_cfg=dict(type="BN3d"),
    conv_cfg=dict(type="Conv2plus1d"),
    inflate=(1, 1, 1, 1),
    zero_init_residual=False,
)
CSN = dict(depth=50, pretrained=None, pretrained2d=False, bottleneck_mode="ir", with_pool2=False)
DILATED = dict(depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
CLIP, IMAGES = (3, 8, 32, 32), (3, 64, 64)

# scope, backbone, arguments, one input, how many convolutions are dynamic
BACKBONES = [
    ("mmaction", "InceptionI3d", dict(width=0.125), CLIP, 57),
    ("mmaction", "R2Plus1d18", dict(base_channels=8), CLIP, 16),
    ("mmaction", "CorrNet", dict(base_channels=8, clip_len=8), CLIP, 16),
    ("mmaction", "ResNet3d", dict(depth=18, pretrained=None), CLIP, 16),
    ("mmaction", "ResNet3d", dict(depth=50, pretrained=None), CLIP, 48),
    ("mmaction", "ResNet3dSlowOnly", dict(depth=50, pretrained=None, lateral=False), CLIP, 48),
    ("mmaction", "ResNet3dSlowFast", dict(pretrained=None), (3, 32, 32, 32), 96),
    ("mmaction", "ResNet2Plus1d", R2PLUS1D, CLIP, 32),
    ("mmaction", "ResNet3dCSN", CSN, CLIP, 48),
    ("mmaction", "X3D", dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2), CLIP, 78),
    ("mmaction", "ResNetTSM", dict(depth=18, num_segments=8), (8, 3, 32, 32), 16),
    ("mmaction", "ResNet", dict(depth=18), IMAGES, 16),
    ("mmaction", "MobileNetV2", dict(), IMAGES, 50),
    ("mmseg", "ResNet", dict(depth=18), IMAGES, 16),
    ("mmseg", "ResNetV1c", DILATED, IMAGES, 16),
    ("mmseg", "ResNetV1d", dict(depth=18), IMAGES, 16),
    ("mmseg", "MobileNetV3", dict(arch="small"), IMAGES, 21),
    ("mmseg", "HRNet", dict(extra=HRNET), IMAGES, 21),
    ("mmseg", "UNet", dict(base_channels=4), IMAGES, 18),
    ("mmdet", "ResNet", dict(depth=18), IMAGES, 16),
    ("mmdet", "Res2Net", dict(depth=50, scales=4, base_width=26), IMAGES, 80),
    ("mmdet", "ResNeSt", dict(depth=50), IMAGES, 48),
    ("mmdet", "RegNet", dict(arch="regnetx_400mf"), IMAGES, 66),
    ("mmdet", "Darknet", dict(), IMAGES, 51),
    ("mmdet", "CSPDarknet", dict(widen_factor=0.25), IMAGES, 66),
    ("mmdet", "MobileNetV2", dict(), IMAGES, 50),
    ("mmaction", "C2D", dict(depth=50), (3, 4, 32, 32), 48),
    # Its linear layers want this size, of which one sample will do.
    ("mmaction", "C3D", dict(), (3, 16, 112, 112), 7),
    ("mmaction", "TANet", dict(depth=50, num_segments=8), (8, 3, 32, 32), 48),
    ("mmaction", "MobileNetV2TSM", dict(num_segments=8), (8, 3, 32, 32), 50),
    ("mmdet", "ResNeXt", dict(depth=50, groups=32, base_width=4), IMAGES, 48),
]  # fmt: skip


def build(scope, name, arguments):
    init_default_scope(scope)
    torch.manual_seed(0)
    return MODELS.build(dict(type=name, **arguments))


def tensors(out):
    return [out] if isinstance(out, torch.Tensor) else [t for part in out for t in tensors(part)]


ids = [f"{scope}-{name}-{i}" for i, (scope, name, *_) in enumerate(BACKBONES)]


@pytest.mark.parametrize(("scope", "name", "arguments", "size", "count"), BACKBONES, ids=ids)
def test_a_static_checkpoint_loads_and_both_forms_of_the_whole_network_agree(
    scope, name, arguments, size, count
):
    static = build(scope, name, arguments)
    model = build(scope, f"VaRed{name}", arguments)
    assert type(model) is type(static)
    assert len(dynamic_convs(model)) == count
    missing, unexpected = model.load_state_dict(static.state_dict(), strict=False)
    assert not unexpected
    assert all(".gate." in key or ".cheap." in key for key in missing)

    samples = 1 if name == "C3D" else 2
    x = torch.randn(samples, *size) if len(size) != 4 or size[0] == 3 else torch.randn(*size)
    # Every second path of each axis: what is skipped in evaluation and merely unused in training.
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
    with torch.no_grad(), forced_gates(model, (0, 0.9, 0.3, 0.8)):
        model.eval()
        evaluated = tensors(model(x))
        for conv in dynamic_convs(model).values():
            conv.training = True
        trained = tensors(model(x))
    for a, b in zip(evaluated, trained, strict=True):
        scale = b.abs().max()
        assert (a - b).abs().max() <= 1e-4 * scale, (a - b).abs().max() / scale

    model.train()  # MMAction2's ResNet3d.train() returns None
    sum(t.square().mean() for t in tensors(model(x))).backward()
    assert all(c.weight.grad is not None for c in dynamic_convs(model).values())


def test_the_prefix_takes_the_backbone_of_the_scope_it_is_built_in():
    modules = [type(build(s, "VaRedResNet", dict(depth=18))).__module__.split(".")[0]
               for s in ("mmaction", "mmseg", "mmdet")]  # fmt: skip
    assert modules == ["mmaction", "mmseg", "mmdet"]


def test_a_backbone_of_another_toolbox_than_the_scope_s_is_built_in_its_own():
    from mmdet.registry import MODELS as DETECTION

    init_default_scope("mmaction")
    model = DETECTION.build(
        dict(
            type="VaRedResNet3dSlowOnly",
            _scope_="mmdet",
            depth=18,
            pretrained=None,
            base_channels=4,
        )
    )
    assert type(model).__module__.startswith("mmaction.")
    assert len(dynamic_convs(model)) == 16


def test_without_a_scope_a_toolbox_that_has_the_backbone_is_found():
    model = MODELS.build(dict(type="VaRedX3D", gamma_w=1, gamma_b=2.25, gamma_d=2.2))
    assert type(model).__module__ == "mmaction.models.backbones.x3d"


def test_x3d_has_one_gate_for_the_three_convolutions_of_a_block():
    model = build("mmaction", "VaRedX3D", dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2))
    owners = {key.split(".gate.")[0] for key in model.state_dict() if ".gate." in key}
    assert len(owners) == 26
    assert all(owner.endswith(".conv1.conv") for owner in owners)


def test_settings_given_go_before_the_preset_s():
    dynamic = dict(targets=r"mixed_5c\..*conv", search_space=3, axes=["time"])
    model = build("mmaction", "VaRedInceptionI3d", dict(width=0.125, dynamic=dynamic))
    convs = dynamic_convs(model)
    assert len(convs) == 6
    assert all(conv.strides == (1, 2, 4) for conv in convs.values())


def test_targets_of_one_s_own_need_no_block_where_the_preset_s_have_one():
    dynamic = dict(targets=r"layer[34].*conv2\.conv")
    arguments = dict(gamma_w=1, gamma_b=2.25, gamma_d=1, dynamic=dynamic)
    convs = dynamic_convs(build("mmaction", "VaRedX3D", arguments))
    # Of 1, 2, 5 and 3 blocks.
    assert len(convs) == 8
    assert {conv.dynamic.share for conv in convs.values()} == {"conv"}


@pytest.mark.parametrize("shifted", [dict(shift_place="block"), dict(temporal_pool=True)])
def test_temporal_shifts_and_pools_around_blocks_and_stages_hide_no_convolution(shifted):
    model = build("mmaction", "VaRedResNetTSM", dict(depth=18, num_segments=8, **shifted))
    assert len(dynamic_convs(model)) == 16


def test_any_backbone_is_wrapped_by_naming_it():
    backbone = dict(type="ResNet", depth=18)
    model = build(
        "mmseg", "VaRedBackbone", dict(backbone=backbone, dynamic=dict(targets=r".*conv2"))
    )
    assert len(dynamic_convs(model)) == 8


@pytest.mark.parametrize("scoped", [True, False], ids=["with its scope", "as the class"])
def test_the_preset_is_found_by_any_name_of_the_type(scoped):
    from mmseg.models import ResNet

    backbone = dict(type="mmseg.ResNet" if scoped else ResNet, depth=18, base_channels=4)
    model = build("mmseg", "VaRedBackbone", dict(backbone=backbone))
    plain = build("mmseg", "VaRedResNet", dict(depth=18, base_channels=4))
    assert list(dynamic_convs(model)) == list(dynamic_convs(plain))


def test_conv_cfg_exchanges_every_convolution_stem_included():
    model = build("mmaction", "InceptionI3d", dict(width=0.125, conv_cfg=dict(type="VaRedConv3d")))
    assert len(dynamic_convs(model)) == 57
    assert isinstance(model.conv1a_7x7.conv, VaRedConv3d)


def test_weights_are_initialised_as_the_static_backbone_s_and_gates_keep_their_start():
    model = build("mmaction", "VaRedResNet3d", dict(depth=18, pretrained=None))
    model.init_weights()
    conv = model.layer1[0].conv1.conv
    assert conv.weight.std() > 0.01
    assert conv.gate.weight2.abs().max() == 0
    assert conv.gate.beta.tolist() == pytest.approx([0.8, 0.3, 0.8, 0.3])


def test_unknown_targets_name_candidates():
    with pytest.raises(NoMatchingModuleError, match=r"'blocks.*' matches .* named like '"):
        build("mmaction", "VaRedInceptionI3d", dict(width=0.125, dynamic=dict(targets="blocks.*")))


def test_a_backbone_without_a_convolution_says_so():
    @MODELS.register_module(force=True)
    class OnlyLinear(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(3, 3))

    with pytest.raises(NoMatchingModuleError, match="OnlyLinear has no Conv2d or Conv3d"):
        build("mmaction", "VaRedBackbone", dict(backbone=dict(type="OnlyLinear")))


@pytest.mark.parametrize("given", [2, False, "conv.*"])
def test_settings_that_are_no_dict_are_refused(given):
    for name, option in (("VaRed", "dynamic"), ("CGNet", "cgnet"), ("Ghost", "ghost")):
        with pytest.raises(ValueError, match=f"{option} is {given!r}; wanted a dict of settings"):
            build("mmaction", f"{name}InceptionI3d", {"width": 0.125, option: given})


@pytest.mark.parametrize("space", [0, 5])
def test_a_search_space_that_does_not_exist_is_refused_in_the_config(space):
    with pytest.raises(ValueError, match=f"search_space is {space}; wanted one of"):
        build("mmaction", "VaRedInceptionI3d", dict(dynamic=dict(search_space=space)))


def test_a_checkpoint_of_another_search_space_is_refused(tmp_path):
    from mmengine.runner import load_checkpoint

    three = build("mmaction", "VaRedInceptionI3d", dict(width=0.25, dynamic=dict(search_space=3)))
    torch.save(dict(state_dict=three.state_dict()), tmp_path / "three.pth")
    two = build("mmaction", "VaRedInceptionI3d", dict(width=0.25))
    with pytest.raises(
        ValueError, match=r"trained with other settings than DynamicConfig\(.*search_space=2"
    ):
        load_checkpoint(two, str(tmp_path / "three.pth"))


def test_every_preset_is_registered_and_covered_here():
    covered = {name for _, name, *_ in BACKBONES}
    assert covered == set(PRESETS)
    assert all(f"VaRed{name}" in MODELS for name in PRESETS)


def test_frozen_stages_stay_static_and_compute_what_they_did():
    static = build("mmaction", "InceptionI3d", dict(width=0.125, frozen_stages=1))
    model = build("mmaction", "VaRedInceptionI3d", dict(width=0.125, frozen_stages=1))
    assert len(dynamic_convs(model)) == 54
    model.load_state_dict(static.state_dict(), strict=False)
    x = torch.randn(1, *CLIP)
    stem = [net.conv2c_3x3(net.conv2b_1x1(net.pool1(net.conv1a_7x7(x)))) for net in (static, model)]
    assert torch.equal(*stem)
    before = {key for key, p in model.named_parameters() if not p.requires_grad}
    model.train()
    assert before == {key for key, p in model.named_parameters() if not p.requires_grad}


def test_a_batch_of_none_goes_through_the_whole_network():
    model = build("mmaction", "VaRedInceptionI3d", dict(width=0.125)).eval()
    assert model(torch.randn(0, *CLIP)).shape == (0, 128, 1, 1, 1)


# Toolboxes freeze while a backbone is built, or when it is first put into training. The numbers are
# of all convolutions less those of the first stages' blocks.
FREEZING = [
    ("mmaction", "ResNet3dSlowOnly", dict(depth=50, base_channels=8, pretrained=None), 48 - 3 * 3),
    ("mmaction", "ResNetTSM", dict(depth=18, pretrained=None), 16 - 2 * 2),
    ("mmaction", "MobileNetV2", dict(), 50 - 2 - 2 * 3),
    ("mmaction", "X3D", dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2), 78 - 3 * 3),
    ("mmaction", "R2Plus1d18", dict(base_channels=8), 16 - 4),
    ("mmseg", "ResNetV1c", DILATED, 16 - 2 * 2),
    ("mmdet", "ResNet", dict(depth=18), 16 - 2 * 2),
    ("mmdet", "Darknet", dict(), 51 - 1 - 2),
    ("mmdet", "MobileNetV2", dict(), 50 - 2 - 2 * 3),
]


@pytest.mark.parametrize(
    ("scope", "name", "arguments", "left"), FREEZING, ids=lambda v: str(v)[:20]
)
def test_frozen_stages_stay_static_and_every_gate_can_learn(scope, name, arguments, left):
    stages = 1 if name not in ("MobileNetV2", "Darknet") else 2
    static = build(scope, name, dict(arguments, frozen_stages=stages))
    model = build(scope, f"VaRed{name}", dict(arguments, frozen_stages=stages))
    static.train()
    model.train()
    convs = dynamic_convs(model)
    assert all(p.requires_grad for conv in convs.values() for p in conv.parameters())
    assert len(convs) == left


def test_what_a_frozen_stage_answers_is_what_the_static_network_does():
    arguments = dict(depth=50, base_channels=8, pretrained=None, frozen_stages=2, out_indices=(1,))
    static, model = (
        build("mmaction", f"{prefix}ResNet3dSlowOnly", arguments) for prefix in ("", "VaRed")
    )
    model.load_state_dict(static.state_dict(), strict=False)
    static.train()
    model.train()
    x = torch.randn(2, 3, 4, 32, 32)
    assert torch.equal(model(x), static(x))


@pytest.mark.parametrize(
    ("scope", "type_", "home"),
    [
        ("mmaction", "VaRedResNet", "mmaction"),
        ("mmaction", "mmaction.VaRedResNet", "mmaction"),
        ("mmaction", "mmdet.VaRedResNet", "mmdet"),
        ("mmaction", "mmseg.VaRedResNet", "mmseg"),
        ("mmdet", "mmdet.VaRedResNet", "mmdet"),
        ("mmdet", "mmaction.VaRedResNet", "mmaction"),
        ("mmdet", "VaRedX3D", "mmaction"),
    ],
)
def test_a_scope_before_the_type_says_whose_backbone_is_meant(scope, type_, home):
    arguments = dict() if "X3D" in type_ else dict(depth=18)
    registry = import_module(f"{scope}.registry").MODELS
    init_default_scope(scope)
    for of in (MODELS, registry):
        model = of.build(dict(type=type_, **arguments))
        assert type(model).__module__.partition(".")[0] == home


@pytest.mark.parametrize("type_", ["ResNet3dSlowOnly", "mmaction.ResNet3dSlowOnly", None])
def test_a_backbone_has_its_preset_however_it_is_named(type_):
    init_default_scope("mmaction")
    from mmaction.models import ResNet3dSlowOnly

    settings = dict(depth=18, pretrained=None, lateral=False, base_channels=8)
    wanted = dynamic_convs(MODELS.build(dict(type="VaRedResNet3dSlowOnly", **settings)))
    settings["type"] = type_ or ResNet3dSlowOnly
    made = dynamic_convs(MODELS.build(dict(type="VaRedBackbone", backbone=settings)))
    assert list(made) == list(wanted)


@pytest.mark.parametrize("scope", ["mmaction", "mmseg", "mmdet"])
def test_everything_of_ours_is_found_under_the_scope_that_one_is_in(scope):
    registries = import_module(f"{scope}.registry")
    for kind, name in (
        ("HOOKS", "CostHook"), ("METRICS", "CostMetric"), ("DATASETS", "VaRedVideoGuard"),
        ("MODELS", "VaRedConv3d"), ("MODELS", "VaRedBackbone"), ("MODELS", "YOWO"),
        ("OPTIM_WRAPPER_CONSTRUCTORS", "MergedGroupsConstructor"),
    ):  # fmt: skip
        registry = getattr(registries, kind)
        assert registry.get(f"{scope}.{name}") is registry.get(name) is not None
