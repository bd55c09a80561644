# YOWO on X3D-M: 5.756 GMACs at 16 x 224 x 224, counted as those of yowo_i3d.py.
model = dict(
    type='YOWO',
    backbone=dict(type='X3D', gamma_w=1, gamma_b=2.25, gamma_d=2.2),
    backbone_2d=dict(type='Darknet19', out_channels=425),
    fusion=dict(type='CFAM', in_channels=432 + 425, channels=1024),
    bbox_head=dict(type='RegionHead', num_classes=21, in_channels=1024),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
