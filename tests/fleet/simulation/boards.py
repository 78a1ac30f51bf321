"""What a simulated board is, and what its files say."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from pinch.tiers import MEBIBYTE, Machine, Tier, load_tiers

PYTHON = "3.13"
"""The Python that a board says it has: trixie's. It really runs this machine's."""
KINDS = ("answers", "refuses", "hangs", "idle")
"""What the ssh port does: let one in, refuse connections, take them and say nothing; `idle` lacks only the service."""
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
SYSTEM = {
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
    "nobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/shadow": "root:*:20000::::::\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/ssh/sshd_config": "HostKey /etc/ssh/host_key\nAuthorizedKeysFile /etc/ssh/authorized\nStrictModes no\n"
    "UsePAM no\nPrintMotd no\nLogLevel ERROR\nMaxSessions 50\n",
    "etc/pinch/pinch.toml": "",
}
SCRIPTS = {
    "usr/bin/dpkg-query": 'for name in "$@"; do case $name in -*) ;; *) echo "$name installed";; esac; done\n',
    "usr/bin/dpkg": "echo arm64\n",
    "usr/bin/uname": "echo aarch64\n",
    "usr/bin/journalctl": "echo nothing is logged on a simulated board\n",
    "usr/bin/systemctl": """case $1 in
--version) echo "systemd 257 (257)";;
show) for word in "$@"; do case $word in
    ControlGroup) echo ControlGroup=/system.slice/pinch.service;;
    InvocationID) echo InvocationID=1;;
    MainPID) echo MainPID=1;;
    esac; done;;
esac
""",
}
"""What answers instead of programs that a simulated board cannot run."""


class SimulatedBoard(NamedTuple):
    """A board: `memory_mb` is its MemTotal, `kind` one of `KINDS`."""

    name: str
    memory_mb: int = 3790
    kind: str = "answers"

    @property
    def tier(self) -> Tier:
        """The tier that fits such a board."""
        return load_tiers().detect(Machine(self.memory_mb * MEBIBYTE, "aarch64", 64))


def write_layer(board: SimulatedBoard, folder: Path, authorized: str, host_key: str) -> None:
    """Write below `folder` what the board has in other words than this machine: `root`, `proc` and `sys`."""
    root = folder / "root"
    for path, text in {**SYSTEM, "etc/hostname": f"{board.name}\n", "etc/ssh/authorized": authorized}.items():
        _write(root / path, text)
    _write(root / "etc/pinch/tokens", f"proof {token(board)}\n")
    _write(root / "etc/ssh/host_key", host_key)
    (root / "etc/ssh/host_key").chmod(0o600)
    for path, text in SCRIPTS.items():
        _write(root / path, f"#!/bin/sh\n{text}")
        (root / path).chmod(0o755)
    _write(root / f"usr/lib/python{_python()}/sitecustomize.py", _sitecustomize())
    zram = board.memory_mb * int(str(board.tier.host["zram_percent"])) // 100
    _write(folder / "proc/meminfo", _meminfo(board))
    _write(folder / "proc/swaps", f"Filename Type Size Used Priority\n/dev/zram0 partition {zram * 1024 - 4} 0 100\n")
    for path, text in _sys(board).items():
        _write(folder / "sys" / path, text)


def token(board: SimulatedBoard) -> str:
    """Return the token of the board's service."""
    return f"token-of-{board.name}"


def _sys(board: SimulatedBoard) -> dict[str, str]:
    tier = board.tier
    limit = board.memory_mb * int(str(tier.host["zram_limit_percent"])) // 100
    unit = "fs/cgroup/system.slice/pinch.service"
    return {
        "fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
        "fs/cgroup/system.slice/cgroup.controllers": "cpu memory pids\n",
        "fs/cgroup/system.slice/memory.max": "max\n",
        "fs/cgroup/system.slice/memory.high": "max\n",
        f"{unit}/memory.max": f"{tier.memory_max_mb * MEBIBYTE}\n",
        f"{unit}/memory.high": f"{tier.memory_high_mb * MEBIBYTE}\n",
        f"{unit}/memory.swap.max": f"{tier.memory_swap_max_mb * MEBIBYTE}\n",
        f"{unit}/memory.pressure": PRESSURE,
        f"{unit}/cgroup.procs": "1\n",
        "block/zram0/mm_stat": f"4096 68 20480 {limit * MEBIBYTE} 20480 0 0 0 0\n",
    }


def _meminfo(board: SimulatedBoard) -> str:
    total = board.memory_mb * 1024
    return f"MemTotal: {total} kB\nMemFree: {total // 2} kB\nMemAvailable: {total // 2} kB\nSwapTotal: 0 kB\n"


def _python() -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _sitecustomize() -> str:
    """Return what makes this machine's Python speak of the board's processor and version."""
    return f"""import os, platform
real = os.uname()
os.uname = lambda: os.uname_result((*real[:4], "aarch64"))
platform.machine = lambda: "aarch64"
platform.python_version_tuple = lambda: {(*PYTHON.split("."), "0")!r}
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
