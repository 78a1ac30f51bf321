"""What these tests need of this machine."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(autouse=True, scope="session")
def able() -> None:
    """Fail at once where trees cannot be made: a suite that is skipped proves nothing."""
    if os.geteuid():
        pytest.exit("root makes the trees, for their owners and mounts: run `make test-all`, which asks for it", 1)
    if not shutil.which("mmdebstrap"):
        pytest.exit("mmdebstrap was not found: install what image/apt-packages.txt lists", 1)
