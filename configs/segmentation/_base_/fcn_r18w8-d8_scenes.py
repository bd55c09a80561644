# An eighth of the channels, for the generated scenes.
_base_ = 'fcn_r18-d8.py'
model = dict(
    backbone=dict(base_channels=8, stem_channels=16),
    decode_head=dict(num_classes=5, in_channels=64, channels=16),
    auxiliary_head=dict(num_classes=5, in_channels=32, channels=16))
