# The paper's segmentation network: a ResNet-18 dilated to 1/8 of the picture, 10.64 GMACs at
# 224 x 224, under C1 with deep supervision: one convolution and a classifier on the last stage, the
# same on the one before it as auxiliary.
norm_cfg = dict(type='BN', requires_grad=True)
head = dict(
    type='FCNHead',
    num_convs=1,
    concat_input=False,
    dropout_ratio=0.0,
    num_classes=150,
    norm_cfg=norm_cfg,
    align_corners=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=8),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        stem_channels=128,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=norm_cfg),
    decode_head=dict(
        **head,
        in_channels=512,
        in_index=3,
        channels=128,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        **head,
        in_channels=256,
        in_index=2,
        channels=128,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
del head
