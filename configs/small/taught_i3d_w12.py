# As vared_i3d_w12.py, with gates that are taught which clips lose most by less computation.
_base_ = 'vared_i3d_w12.py'
model = dict(
    backbone=dict(dynamic=dict(pool='change', normalised=True, gate_bias=(0.8, -0.3))))
# In the place of the efficiency loss, which is the first.
custom_hooks = [dict(type='TeachGatesHook'), *_base_.custom_hooks[1:]]
# Gates learn from their own loss, and have to be sure before the weights follow them.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(_delete_=True, **{'.gate.': dict(lr_mult=20.0, decay_mult=0.0)})))
