# AR-Net for Mini-Kinetics-200, 62.74 M parameters. Of 16 frames at 224 x 224 all seen by ResNet-50
# take 66.27 GMACs, all left to the policy's own network 0.87.
model = dict(
    type='ARNet',
    policy=dict(type='MobileNetV2'),
    backbones=[
        dict(type='ResNet', depth=depth, norm_eval=False) for depth in (50, 34, 18)
    ],
    cls_head=dict(type='FramesHead', num_classes=200),
    sizes=(224, 168, 112, 84),
    skips=(1, 2, 4),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCHW'))
# Each parameter has a gradient in each step, that of what nobody chose too.
find_unused_parameters = False
