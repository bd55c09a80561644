# The paper's I3D at a quarter of its width, static: what the dynamic one starts from.
_base_ = ['_base_motion.py', '../_base_/static.py']

model = dict(backbone=dict(type='InceptionI3d', width=0.25))
