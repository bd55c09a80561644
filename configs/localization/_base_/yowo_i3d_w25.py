# YOWO at a quarter of its width, for training in minutes or hours on a CPU. Anchors in cells of 32
# pixels at 128 x 128.
model = dict(
    type='YOWO',
    backbone=dict(type='InceptionI3d', width=0.25),
    backbone_2d=dict(type='Darknet19', width=0.25, out_channels=128),
    fusion=dict(type='CFAM', in_channels=256 + 128, channels=256),
    bbox_head=dict(
        type='RegionHead',
        num_classes=9,
        in_channels=256,
        anchors=[(0.8, 0.8), (1.2, 1.2), (1.6, 1.6), (2.2, 2.2), (1.2, 2.0)]),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
