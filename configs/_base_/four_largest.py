# The four convolutions that are nine tenths of a narrow I3D.
four_largest = r'(conv1a_7x7|conv2c_3x3|mixed_3\w\.branch_1\.1)\.conv'
