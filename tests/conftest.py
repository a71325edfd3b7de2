"""What every test relies on: eight CPU devices, full matmul precision, and compiled programs kept between runs.

All of it is environment, set before JAX is imported, so that programs which a test starts inherit it.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebm_jax import huge_pages
from tests.environment import xla_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = xla_flags(8, os.environ.get("XLA_FLAGS", ""))
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Of use to workers and to programs that tests start, which begin with it.
os.environ.update(huge_pages.asking(os.environ) or {})
# JAX writes cache entries in place, so two workers must not share a folder; a worker inherits its parent's choice.
_CACHE = Path(__file__).parents[1] / ".jax_cache"
if Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", _CACHE)).is_relative_to(_CACHE):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE / os.environ.get("PYTEST_XDIST_WORKER", "main"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many long tests come first, so that no worker is left alone with one of them at the end."""
    cost = Counter[Path]()
    for item in items:
        cost[item.path] += 20 if item.get_closest_marker("slow") else 1
    items.sort(key=lambda item: -cost[item.path])


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go() -> Iterator[None]:
    """Every compiled program maps memory, of which Linux gives a process 65,530 pieces (docs/log.md)."""
    yield
    if (jax := sys.modules.get("jax")) is not None:
        jax.clear_caches()


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit types for one test; they are off everywhere else."""
    import jax

    with jax.enable_x64(True):
        yield
