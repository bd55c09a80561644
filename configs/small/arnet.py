# AR-Net with narrow networks, on square frames of 48 pixels and less.
_base_ = ['_base_/clips_square.py', '../_base_/static.py']
narrow = [
    dict(type='NarrowResNet', depth=depth, base_channels=channels) for depth, channels in ()
]
