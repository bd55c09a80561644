# A plain 2-D ResNet-50 for Mini-Kinetics-200, its scores averaged over the frames: 65.39 GMACs at
# 16 x 224 x 224, 23.92 M parameters.
model = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNet', depth=50, norm_eval=False),
    cls_head=dict(
        type='TSNHead',
        num_classes=200,
        in_channels=2048,
        dropout_ratio=0.5,
        init_std=0.01,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCHW'))
