"""The machine that a benchmark ran on: a time without it says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Return one line: processor, cores, load, system."""
    models = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    load = os.getloadavg()[0]
    return f"{processor}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
