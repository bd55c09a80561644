# With gates on the four convolutions that are nine tenths of a narrow I3D: the others would hardly
# save MACs, no time, and cost accuracy (docs/results.md).
_base_ = ['vared.py', 'four_largest.py']
