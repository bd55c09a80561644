import pytest
import torch
from mmengine.registry import DefaultScope

from vared_mm.fast import max_pool, native_conv, squeeze_excite
from vared_mm.method import all_paths_native, gate_native, rebuild_native

KERNELS = (
    all_paths_native, gate_native, max_pool, native_conv, rebuild_native, squeeze_excite,
)  # fmt: skip

# The tensors of most tests are tiny: threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_scope_stays():
    """A Runner leaves its scope as the default one, in which the next test would look names up."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture
def _compiler():
    if gate_native.library() is None:
        pytest.skip("no C++ compiler is here")


@pytest.fixture
def _suited(_compiler):
    if native_conv.library() is None:
        pytest.skip("no AVX-512 is here, which our own convolutions are written for")


@pytest.fixture(params=["kernels", "torch"])
def _by(request, monkeypatch):
    """With the compiled kernels, and as where there is no compiler."""
    if request.param == "torch":
        for kernels in KERNELS:
            monkeypatch.setattr(kernels, "library", lambda: None)
    else:
        request.getfixturevalue("_compiler")


@pytest.fixture(params=[1, 3])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _float64_by_default():
    """As a user may have set it."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def _exact_products():
    """Of float32 on a GPU, which multiplies in TF32 by itself."""
    old = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = old
