# A quarter of the channels, for training on a CPU.
_base_ = 'fcn_r18-d8_camvid.py'
model = dict(
    backbone=dict(base_channels=16, stem_channels=32),
    decode_head=dict(in_channels=128, channels=32),
    auxiliary_head=dict(in_channels=64, channels=32))
