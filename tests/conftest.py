import os
import resource
from pathlib import Path

import pytest

# Tests compare numbers, many of them small: one thread is faster and repeats exactly.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without a GPU its kernels run in Triton's interpreter, which must know before it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("GROWPRUNE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set GROWPRUNE_DATA to run this test")
    return folder


@pytest.fixture
def small_disk():
    """Writing ends after 1000 bytes of a file, as on a full disk: by the system, not by a mock."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
