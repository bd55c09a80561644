# Generated scenes: the narrowed network, static.
_base_ = [
    '../_base_/fcn_r18w8-d8_scenes.py', '../_base_/scenes.py', '../_base_/adamw_scenes.py',
    '../../_base_/static.py',
]
