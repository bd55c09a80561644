# Mini-Kinetics-200, among the videos of Kinetics-400; without pipelines, as kinetics400.py.
_base_ = 'kinetics400.py'

train = dict(
    ann_file='data/kinetics400/mini-kinetics200_train_list_videos.txt')
val = dict(
    ann_file='data/kinetics400/mini-kinetics200_val_list_videos.txt')

train_dataloader = dict(dataset=dict(dataset=train))
val_dataloader = dict(dataset=dict(dataset=val))
test_dataloader = dict(dataset=dict(dataset=val))
del train, val
