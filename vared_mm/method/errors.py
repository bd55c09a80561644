"""What can go wrong when a network is made dynamic, by name."""


class DynamicError(ValueError):
    """A request that the dynamic convolution cannot serve."""


class NoMatchingModuleError(DynamicError):
    """The targets match no convolution of the model."""


class UnsupportedConvError(DynamicError):
    """A matched convolution that cannot be made dynamic without changing what it computes."""
