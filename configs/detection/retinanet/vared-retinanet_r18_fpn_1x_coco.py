# The same with a dynamic ResNet-18.
_base_ = 'vared-retinanet_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]))
