"""`python -m tests.benchmarks.start`: start to first recall against bare imports, on this machine.

On a board, `tests/budget/test_speed.py` runs the same comparison with the unit that systemd starts.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.machine import machine
from tests.cache import REPOSITORY
from tests.corpus.snapshot import build
from tests.onboard.start import compare, first_recall
from tests.running import LocalService

MOST = 1.3
ROUNDS = 11


def main() -> int:
    """Print the comparison; return 1 where it is worse than the bound."""
    corpus = build(semantic=False)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # A release is installed with its bytecode, so both sides have it here too.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        python = ["/usr/bin/env", f"PYTHONPATH={REPOSITORY / 'service' / 'src'}", sys.executable]
        (folder / "state").mkdir()
        shutil.copy(corpus.snapshot, folder / "state" / "pinch.db")
        service = LocalService(folder, PINCH_TIER="minimal")

        def begin() -> float:
            moment = time.monotonic()
            service.spawn()
            return moment

        def measure() -> float:
            service.stop()
            return first_recall(f"127.0.0.1:{service.port}", service.token, begin)

        found = compare(python, {"process": measure}, ROUNDS)
        service.stop()
    print(f"machine: {machine()}")
    ratio = found["process"] / found["imports"]
    print(f"bare imports of {found['modules']} third-party modules: {found['imports']} s")
    print(f"start to first recall over {corpus.documents} documents: {found['process']} s")
    print(f"ratio: {ratio:.3f} (expected at most {MOST:g})")
    return int(ratio > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
