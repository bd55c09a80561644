# With gates on the four convolutions that are nine tenths of a narrow I3D: the others would hardly
# save MACs, no time, and cost accuracy (docs/results.md).
_base_ = 'vared.py'
four_largest = r'(conv1a_7x7|conv2c_3x3|mixed_3\w\.branch_1\.1)\.conv'
