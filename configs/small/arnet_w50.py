# AR-Net of MobileNetV2s of half the width and less, on square frames of 48 pixels and less.
_base_ = ['_base_/clips_square.py', '../_base_/static.py']
from vared_mm.datasets.clips import whole_video_pipelines  # noqa: E402 (mmengine: _base_ comes first)

model = dict(
    type='ARNet',
    policy=dict(type='MobileNetV2', widen_factor=0.25),
    backbones=[dict(type='MobileNetV2', widen_factor=width) for width in (0.5, 0.35, 0.25)],
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
