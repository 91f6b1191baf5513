"""What every test shares: type checks at run time, and a key that comes from the test's name."""

import os
import signal
import zlib
from pathlib import Path

import hypothesis
import jax
import pytest
from jaxtyping import install_import_hook

# Annotated shapes and types are checked in every call that a test makes.
install_import_hook("distvi", "beartype.beartype")

# After the hook, for it imports distvi.
from tests import promotion  # noqa: E402

promotion.refuse()

# A shell lets what it runs in the background ignore Ctrl-C, and so would all processes of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No clocks, and the same examples every time.
hypothesis.settings.register_profile("distvi", deadline=None, derandomize=True)
hypothesis.settings.load_profile("distvi")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed that depends on the test's name alone, so no test's draws depend on another's."""
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def key(seed: int) -> jax.Array:
    return jax.random.key(seed)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets that ``DISTVI_DATA`` names."""
    folder = os.environ.get("DISTVI_DATA")
    if not folder:
        pytest.skip("DISTVI_DATA names no folder of data sets")
    return Path(folder).resolve()
