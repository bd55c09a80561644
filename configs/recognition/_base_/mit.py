# Moments-In-Time without pipelines, as kinetics400.py.
_base_ = 'kinetics400.py'

train = dict(
    ann_file='data/mit/mit_train_list_videos.txt',
    data_prefix=dict(video='data/mit/videos/training'))
val = dict(
    ann_file='data/mit/mit_val_list_videos.txt',
    data_prefix=dict(video='data/mit/videos/validation'))
train_dataloader = dict(dataset=dict(dataset=train))
val_dataloader = dict(dataset=dict(dataset=val))
test_dataloader = dict(dataset=dict(dataset=val))
del train, val
