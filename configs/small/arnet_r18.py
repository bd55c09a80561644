# AR-Net of ResNet-18s of a quarter of the width and less, on square frames of 48 pixels and less.
_base_ = ['_base_/clips_square.py', '../_base_/static.py']
from vared_mm.datasets.clips import whole_video_pipelines  # noqa: E402 (mmengine: _base_ comes first)

# MobileNetV2s, which the large one chooses with, take five times as long a step on a CPU.
policy, *backbones = [
    dict(
        type='mmdet.ResNet',
        depth=18,
        stem_channels=width,
        base_channels=width,
        out_indices=(3, ),
        norm_eval=False) for width in (8, 16, 12, 8)
]
model = dict(
    type='ARNet',
    policy=policy,
    backbones=backbones,
    cls_head=dict(
        _delete_=True,
        type='FramesHead',
        num_classes=_base_.model.cls_head.num_classes,
        dropout_ratio=0.2),
    sizes=(48, 36, 24, 18),
    hidden=64,
    # A frame at the largest size costs about as much as in the large network.
    cost_unit=1e6,
    data_preprocessor=dict(format_shape='NCHW'))

train_pipeline, test_pipeline = whole_video_pipelines(
    frames=8, size=(48, 48), area=(0.8, 1.0), aspect=(0.9, 1.1), jitter=False, shape='NCHW')
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
