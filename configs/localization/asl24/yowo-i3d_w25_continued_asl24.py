# The static form again, from where the dynamic one starts and as long: what that is compared with.
_base_ = 'yowo-i3d_w25_asl24.py'
load_from = 'work_dirs/yowo-i3d_w25_asl24/epoch_6.pth'
