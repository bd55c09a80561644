# Generated scenes: the dynamic form, fine-tuned from the static network.
_base_ = [
    '../_base_/fcn_r18w16-d8_scenes.py', '../_base_/scenes.py', '../_base_/finetune_200.py',
    '../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedResNetV1c'))
load_from = 'work_dirs/fcn_r18w16-d8_1xb8-300_scenes-96x96/iter_300.pth'
