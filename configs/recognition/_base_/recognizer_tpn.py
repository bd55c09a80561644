# MMAction2's temporal pyramid neck on R(2+1)D-18 for Mini-Kinetics-200, 56.90 GMACs at
# 16 x 128 x 128. Its levels are the last two stages, brought to the frames of the last one.
_base_ = '../../_base_/recognizer3d.py'
model = dict(
    backbone=dict(type='R2Plus1d18', out_indices=(2, 3)),
    neck=dict(
        type='TPN',
        in_channels=(256, 512),
        out_channels=1024,
        spatial_modulation_cfg=dict(in_channels=(256, 512), out_channels=512),
        temporal_modulation_cfg=dict(downsample_scales=(2, 1)),
        upsample_cfg=dict(scale_factor=(1, 1, 1)),
        downsample_cfg=dict(downsample_scale=(1, 1, 1)),
        level_fusion_cfg=dict(
            in_channels=(1024, 1024),
            mid_channels=(1024, 1024),
            out_channels=1024,
            downsample_scales=((1, 1, 1), (1, 1, 1))),
        aux_head_cfg=dict(out_channels=200, loss_weight=0.5)),
    cls_head=dict(type='TPNHead', num_classes=200, in_channels=2048))
