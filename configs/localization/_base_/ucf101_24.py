# UCF101-24, split 1: UCF101v2-GT.pkl and the folder rgb-images in data/ucf101_24. The videos are
# longer than the actions in them, so that tubes end where the boxes do.
_base_ = 'jhmdb21.py'

data = dict(
    data_root='data/ucf101_24',
    ann_file='UCF101v2-GT.pkl',
    data_prefix=dict(img='rgb-images'),
    filename_tmpl='{:05d}.jpg')
train_dataloader = dict(dataset=data)
test_dataloader = dict(dataset=data)
val_dataloader = dict(dataset=data)
val_evaluator = [
    dict(
        type='JHMDBMetric', classwise=True, pixel_ends=True,
        link=dict(min_score=0.05, max_gap=5)),
    dict(type='CostMetric'),
]
test_evaluator = val_evaluator
del data
