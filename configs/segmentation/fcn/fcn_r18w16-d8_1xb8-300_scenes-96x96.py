# Generated scenes: a quarter of the channels, static.
_base_ = [
    '../_base_/fcn_r18w16-d8_scenes.py', '../_base_/scenes.py', '../_base_/sgd_300.py',
    '../../_base_/static.py',
]
