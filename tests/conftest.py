import gc
import logging
import shutil

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from mmengine.config import config
from mmengine.registry import DefaultScope

from vared_mm.fast import precision
from vared_mm.kernels import (
    compiler,
    convolutions,
    decide,
    loading,
    max_pool,
    rebuild,
    series,
    squeeze_excite,
    tiled_conv,
)

# Files of 40 s and more come first: with `--dist loadfile` a late one keeps one core busy alone.
LONG = {
    "test_benchmark", "test_bfloat16", "test_configs", "test_doctor", "test_dynamic_backbones",
    "test_efficiency_loss_hook", "test_evaluate", "test_export", "test_export_dynamic",
    "test_export_policies", "test_export_snapshot", "test_localization_run", "test_predicated_conv",
    "test_recognition_run", "test_segmentation_run", "test_tools", "test_training_runs",
    "test_two_processes", "test_visualize", "test_weight_pruning",
}  # fmt: skip
KERNELS = (convolutions, decide, max_pool, rebuild, series, squeeze_excite, tiled_conv)
SOURCES = [v for kernels in KERNELS for v in vars(kernels).values() if type(v) is loading.Source]

# `--hypothesis-profile long` searches for half an hour.
COMMON = dict(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
# To make a failing example smaller takes as long as the tests may.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
settings.register_profile("short", max_examples=20, derandomize=True, phases=PHASES, **COMMON)
settings.register_profile("long", max_examples=1000, **COMMON)
settings.load_profile("short")

# The tensors of most tests are tiny: threads would only wait for each other.
torch.set_num_threads(1)

# A Runner writes its config down five times, and yapf lays it out in a second or two each time.
config.FormatCode = lambda text, **style: (text, True)


@pytest.fixture(autouse=True, scope="module")
def _garbage_is_looked_for_in_what_is_new():
    """mmengine looks for it whenever it makes a data set: a third of a second, for all imports."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_scope_stays():
    """A Runner leaves its scope as the default one, in which the next test would look names up."""
    yield
    DefaultScope._instance_dict.clear()


def compiler_is_here():
    try:
        return shutil.which(compiler.command()[0]) is not None
    except FileNotFoundError:
        return False


class Kept(logging.Handler):
    """Of all of this process."""

    def __init__(self):
        super().__init__()
        self.told = []

    def emit(self, record):
        self.told.append(record.getMessage())


WARNED = Kept()
if compiler_is_here():
    logging.getLogger(loading.__name__).addHandler(WARNED)


@pytest.fixture(autouse=True)
def _kernels_are_used():
    """Where a compiler is, a kernel that cannot be used is a fault, and no reason to skip."""
    yield
    if WARNED.told:
        pytest.fail(WARNED.told[0])


@pytest.fixture(autouse=True, scope="session")
def _maps_are_float32():
    """Also on processors that compute in bfloat16, unless a test asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "computes_in_bfloat16", lambda: False)
        yield


@pytest.fixture
def _compiler():
    if not compiler_is_here():
        pytest.skip("no C++ compiler is here")


@pytest.fixture(params=["tiles", "without"])
def _tiles(request, monkeypatch):
    """With AMX, whose instructions are computed one by one where it is not, and without."""
    monkeypatch.setattr(tiled_conv, "suits", lambda: request.param == "tiles")


@pytest.fixture
def _suited(_compiler, monkeypatch):
    """Our own convolutions, also where oneDNN's are faster."""
    monkeypatch.setattr(convolutions, "suits", lambda: True)


@pytest.fixture(params=["kernels", "kernels where oneDNN convolves", "torch"])
def _by(request, monkeypatch):
    """With the compiled kernels, and as where there is no AVX2, or no compiler."""
    if request.param == "torch":
        for kernels in KERNELS:
            monkeypatch.setattr(kernels, "library", lambda *_: None)
    else:
        request.getfixturevalue("_compiler")
        monkeypatch.setattr(convolutions, "suits", lambda: request.param == "kernels")


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


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    binary = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with its chromedriver is here: apt-get install chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    flags = (
        "headless=new no-sandbox disable-gpu disable-dev-shm-usage disable-quic no-first-run "
        "disable-background-networking disable-component-update disable-sync"
    )
    for flag in [*flags.split(), f"user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With the driver's path selenium looks for none to download.
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
