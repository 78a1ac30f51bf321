"""`python -m tests.benchmarks.allocator`: what the allocator keeps after long texts, by its thresholds."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.machine import machine
from tests.corpus.snapshot import model_folder

TEXTS = 20
WORDS = 240

CHILD = """
import sys
from pathlib import Path
from pinch.budget import allocator
from pinch.budget.sampling import sample
if sys.argv[2] == "fixed":
    allocator.settle()
from pinch.memory.model import load_session, read_manifest
session = load_session(read_manifest(Path(sys.argv[1])), threads=1)
session.embed("warm")
before = sample().anonymous_bytes
for _ in range({texts}):
    session.embed("kettle " * {words})
print(before, sample().anonymous_bytes)
"""


def main() -> int:
    """Print both figures."""
    folder = model_folder()
    print(f"machine: {machine()}")
    for name in ("default", "fixed"):
        script = CHILD.format(texts=TEXTS, words=WORDS)
        output = subprocess.run(
            [sys.executable, "-c", script, str(folder), name], capture_output=True, text=True, check=True
        ).stdout
        before, after = (int(part) / 2**20 for part in output.split())
        print(f"{name} thresholds: {before:.1f} MB anonymous after one word, {after:.1f} MB after {TEXTS} long texts")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
