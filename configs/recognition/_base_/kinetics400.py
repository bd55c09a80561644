# Kinetics-400 without pipelines, which the files for a clip length and size add.
train = dict(
    type='VideoDataset',
    ann_file='data/kinetics400/kinetics400_train_list_videos.txt',
    data_prefix=dict(video='data/kinetics400/videos_train'))
val = dict(
    type='VideoDataset',
    ann_file='data/kinetics400/kinetics400_val_list_videos.txt',
    data_prefix=dict(video='data/kinetics400/videos_val'),
    test_mode=True)
loader = dict(batch_size=12, num_workers=8, persistent_workers=True)
guard = 'VaRedVideoGuard'

# A broken file of the 240,000 shall not end a week of training; it is named and counted.
train_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=guard, broken='skip', dataset=train))
val_dataloader = dict(
    **loader, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=guard, dataset=val))
# Its pipeline comes to the guard itself, where MMAction2's inferencer looks for it.
test_dataloader = dict(val_dataloader, batch_size=1)
del train, val, loader, guard
