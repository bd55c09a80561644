# What recognizers of clips share.
model = dict(
    type='Recognizer3D',
    cls_head=dict(type='I3DHead', dropout_ratio=0.5, init_std=0.01, average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[114.75, 114.75, 114.75],
        std=[57.38, 57.38, 57.38],
        format_shape='NCTHW'))
