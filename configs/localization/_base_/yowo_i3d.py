# YOWO on the paper's I3D: 43.88 GMACs at 16 x 224 x 224 without the 2-D network, whose 4.27 the
# paper does not count, and without the products of the channel attention.
model = dict(
    type='YOWO',
    backbone=dict(type='InceptionI3d'),
    backbone_2d=dict(type='Darknet19', out_channels=425),
    fusion=dict(type='CFAM', in_channels=1024 + 425, channels=1024),
    bbox_head=dict(type='RegionHead', num_classes=21, in_channels=1024),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
