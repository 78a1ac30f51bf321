"""`python -m tests.benchmarks.allocator`: what embedding long texts takes and keeps, by window and allocator."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.machine import machine
from tests.corpus.snapshot import model_folder

CHILD = """
import ctypes, sys, threading, time
from pathlib import Path
from pinch.budget import allocator
from pinch.budget.sampling import sample
from pinch.memory import model
folder, window, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]
allocator.settle()
if way == "64 KiB thresholds":
    for threshold in (-3, -1):  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of mallopt(3)
        ctypes.CDLL(None).mallopt(threshold, 65536)
model.WINDOW_LIMIT = window
session = model.load_session(model.read_manifest(Path(folder)), threads=1)
session.embed("warm")
base, peak, done = sample().anonymous_bytes, 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, sample().anonymous_bytes)
        time.sleep(0.002)
def embed(times):
    for _ in range(times):
        session.embed("kettle window water " * 80)
        if way == "trim":
            allocator.trim()
begin = time.process_time()
embed(20)
spent = (time.process_time() - begin) / 20
watcher = threading.Thread(target=watch)
watcher.start()
embed(10)
done = True
watcher.join()
print(base / 2**20, peak / 2**20, sample().anonymous_bytes / 2**20, spent * 1000)
"""


def main() -> int:
    """Print a line for each combination."""
    folder = model_folder()
    print(f"machine: {machine()}")
    for window in (256, 128, 64):
        for way in ("glibc's thresholds", "64 KiB thresholds", "trim"):
            command = [sys.executable, "-c", CHILD, str(folder), str(window), way]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            base, peak, kept, spent = map(float, output.split())
            print(
                f"window {window}, {way}: anonymous {base:.1f} MB before, {peak:.1f} at the peak, {kept:.1f} after; "
                f"{spent:.0f} ms of processor for a text of 240 tokens"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
