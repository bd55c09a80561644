# MMAction2's own way: boxes from a file of proposals, and AVARoIHead on a dynamic SlowOnly. The
# checkpoint is that of the static network.
_base_ = [
    'mmaction::detection/slowonly/'
    'slowonly_kinetics400-pretrained-r50_8xb16-4x16x1-20e_ava21-rgb.py',
]

custom_imports = dict(imports=['vared_mm'], allow_failed_imports=False)
model = dict(backbone=dict(type='VaRedResNet3dSlowOnly', dynamic=dict(search_space=2)))
# Weight decay on the gates' bias would shut them whatever is learned.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'gate.beta': dict(decay_mult=0.)}))
custom_hooks = [
    dict(type='EfficiencyLossHook', weight=2.0, ramp=0.5, correct='always'),
    dict(type='CostHook'),
    dict(type='PolicyLogHook'),
]
val_evaluator = [{{_base_.val_evaluator}}, dict(type='CostMetric')]
test_evaluator = val_evaluator
