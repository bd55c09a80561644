# MMDetection's RetinaNet with a dynamic ResNet-50, whose frozen first stage stays static.
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/vared.py']
# With norm_eval the gates' BatchNorm would be fixed at its start.
model = dict(backbone=dict(type='VaRedResNet', norm_eval=False))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'gate.beta': dict(decay_mult=0.0)}))
val_evaluator = [_base_.val_evaluator, dict(type='CostMetric')]
test_evaluator = val_evaluator
