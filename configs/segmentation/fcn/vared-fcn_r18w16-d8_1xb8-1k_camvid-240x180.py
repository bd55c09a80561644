# CamVid: the narrow dynamic form, fine-tuned from the static network.
_base_ = [
    '../_base_/fcn_r18w16-d8_camvid.py', '../_base_/camvid.py', '../_base_/finetune_1k.py',
    '../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedResNetV1c'))
load_from = 'work_dirs/fcn_r18w16-d8_1xb8-2k_camvid-240x180/iter_2000.pth'
