# Kinetics-400 in clips of 16 frames at 256 x 256. Validation is clip-1: one centre clip, centre
# crop; the test is video-1 and video-5: 10 clips x 3 crops, their softmax averaged.
data_root = 'data/kinetics400/videos_train'
data_root_val = 'data/kinetics400/videos_val'

clip = dict(type='SampleFrames', clip_len=16, frame_interval=4, num_clips=1)
pack = [dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
train_pipeline = [
    dict(type='DecordInit'), clip, dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 292)),
    dict(type='RandomResizedCrop'),
    dict(type='Resize', scale=(256, 256), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5), *pack,
]
val_pipeline = [
    dict(type='DecordInit'), dict(clip, test_mode=True), dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)), dict(type='CenterCrop', crop_size=256), *pack,
]
test_pipeline = [
    dict(type='DecordInit'), dict(clip, test_mode=True, num_clips=10), dict(type='DecordDecode'),
    dict(type='Resize', scale=(-1, 256)), dict(type='ThreeCrop', crop_size=256), *pack,
]


def videos(ann_file, root, pipeline, **settings):
    return dict(
        type='VideoDataset', ann_file=ann_file, data_prefix=dict(video=root),
        pipeline=pipeline, **settings)


# A broken file of the 240,000 shall not end a week of training; it is named and counted.
train_dataloader = dict(
    batch_size=12, num_workers=8, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='VaRedVideoGuard', broken='skip',
        dataset=videos(
            'data/kinetics400/kinetics400_train_list_videos.txt', data_root, train_pipeline)))
val_dataloader = dict(
    batch_size=12, num_workers=8, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='VaRedVideoGuard',
        dataset=videos(
            'data/kinetics400/kinetics400_val_list_videos.txt', data_root_val, val_pipeline,
            test_mode=True)))
test_dataloader = dict(
    val_dataloader, batch_size=1,
    dataset=dict(
        type='VaRedVideoGuard',
        dataset=videos(
            'data/kinetics400/kinetics400_val_list_videos.txt', data_root_val, test_pipeline,
            test_mode=True)))

val_evaluator = [dict(type='AccMetric'), dict(type='CostMetric')]
test_evaluator = val_evaluator
