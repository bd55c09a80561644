# The paper's I3D: Inception-V1 inflated, 55.93 GMACs at 16 x 256 x 256.
model = dict(
    type='Recognizer3D',
    backbone=dict(type='InceptionI3d'),
    cls_head=dict(
        type='I3DHead',
        num_classes=400,
        in_channels=1024,
        dropout_ratio=0.5,
        init_std=0.01,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
