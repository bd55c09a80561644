# CorrNet on R(2+1)D-18 for Mini-Kinetics-200, 60.61 GMACs at 16 x 128 x 128.
model = dict(
    type='Recognizer3D',
    backbone=dict(type='CorrNet', clip_len=16),
    cls_head=dict(
        type='I3DHead',
        num_classes=200,
        in_channels=512,
        dropout_ratio=0.5,
        init_std=0.01,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
