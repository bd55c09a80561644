# A quarter of the channels, for the five classes of the generated scenes.
_base_ = 'fcn_r18-d8.py'
model = dict(
    backbone=dict(base_channels=16, stem_channels=32),
    decode_head=dict(num_classes=5, in_channels=128, channels=32),
    auxiliary_head=dict(num_classes=5, in_channels=64, channels=32))
