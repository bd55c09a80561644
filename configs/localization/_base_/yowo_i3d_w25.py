# YOWO at a quarter of its width, for training in minutes on a CPU. Anchors in cells of 32 pixels at
# 96 x 96.
model = dict(
    type='YOWO',
    backbone=dict(type='InceptionI3d', width=0.25),
    backbone_2d=dict(type='Darknet19', width=0.25, out_channels=128),
    fusion=dict(type='CFAM', in_channels=256 + 128, channels=256),
    bbox_head=dict(
        type='RegionHead',
        num_classes=9,
        in_channels=256,
        anchors=[(0.6, 0.6), (0.9, 0.9), (1.2, 1.2), (1.65, 1.65), (0.9, 1.5)],
        # Without a 2-D network that has learned on pictures, where an object is comes last.
        loss=dict(coordinates=5.0)),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
