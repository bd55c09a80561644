import pytest
import torch
from mmengine.registry import DefaultScope

# The tensors of most tests are tiny: threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_scope_stays():
    """A Runner leaves its scope as the default one, in which the next test would look names up."""
    yield
    DefaultScope._instance_dict.clear()
