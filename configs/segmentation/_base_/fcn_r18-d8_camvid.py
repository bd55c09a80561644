# For CamVid, whose void is label 11.
_base_ = 'fcn_r18-d8.py'
model = dict(
    data_preprocessor=dict(seg_pad_val=11),
    decode_head=dict(num_classes=11, ignore_index=11),
    auxiliary_head=dict(num_classes=11, ignore_index=11))
