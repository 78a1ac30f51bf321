"""Where swap is configured on a board: the vendors' files, ours, and the words in both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

MECHANISMS = ("zram", "zswap", "file", "rpi-swap", "dphys", "none")
KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024

RPI_GENERATOR = "usr/lib/systemd/system-generators/rpi-swap-generator"
RPI_CONF = "etc/rpi/swap.conf"
RPI_FOLDERS = ("usr/lib/rpi", "usr/local/lib/rpi", "run/rpi", "etc/rpi")
RPI_FILE = "/var/swap"
"""Where rpi-swap keeps its file unless its configuration says otherwise."""
RPI_LIVE = "run/systemd/zram-generator.conf.d/20-rpi-swap-zram0-ctrl.conf"
"""What rpi-swap's generator tells zram-generator at boot; nobody removes it before the next one."""
DPHYS_CONF = "etc/dphys-swapfile"
DPHYS_PROGRAMS = ("sbin/dphys-swapfile", "usr/sbin/dphys-swapfile")
DPHYS_UNIT = "dphys-swapfile.service"
DPHYS_FILE = "/var/swap"
ZRAM_GENERATORS = tuple(f"{folder}/systemd/system-generators/zram-generator" for folder in ("usr/lib", "lib"))
ZRAM_TOOLS = "usr/sbin/zramswap"
UNIT_FOLDERS = ("usr/lib/systemd/system", "lib/systemd/system")
SYSTEM = "etc/systemd/system"
WANTS = f"{SYSTEM}/swap.target.wants"

OUR_ZRAM = "etc/systemd/zram-generator.conf.d/50-pinch.conf"
OUR_ZRAM_SETUP = f"{SYSTEM}/systemd-zram-setup@zram0.service.d/90-pinch.conf"
ZRAM = "/dev/zram0"
ZRAM_SIZE = "sys/block/zram0/disksize"
ZRAM_UNIT = "dev-zram0.swap"
OUR_ZRAM_SWAP = f"{SYSTEM}/dev-zram0.swap.d/90-pinch.conf"
OUR_RPI = "etc/rpi/swap.conf.d/90-pinch.conf"
OUR_DPHYS_MASK = f"{SYSTEM}/{DPHYS_UNIT}"
OUR_DPHYS_UNIT = f"{SYSTEM}/{DPHYS_UNIT}.d/90-pinch.conf"
OUR_ZSWAP = "etc/tmpfiles.d/pinch-swap.conf"
OURS = (OUR_ZRAM, OUR_ZRAM_SETUP, OUR_ZRAM_SWAP, OUR_RPI, OUR_DPHYS_UNIT, OUR_ZSWAP)
"""Whole files of ours; the mask of dphys, its block and the units of swap files are judged one by one."""
MARK = "# Written by the role swap of Pinch; a change here is overwritten."
BLOCK = ("# Pinch begins: written by the role swap, the last word of this file\n", "# Pinch ends\n")
RECORD = "var/lib/pinch-found/swap.json"
DEFERRED = "run/pinch-swap-deferred"
"""While it exists nothing of ours starts swapping; a reboot takes it away."""

ZSWAP = "sys/module/zswap/parameters"


def unit_of(path: str) -> str:
    """Return the name that systemd gives the unit of the swap area at `path`."""
    trimmed = re.sub("/+", "/", path).strip("/")
    escaped = "".join(
        "-" if sign == "/" else sign if re.match(r"[A-Za-z0-9:_.]", sign) else f"\\x{ord(sign):02x}" for sign in trimmed
    )
    return ("\\x2e" + escaped[1:] if escaped.startswith(".") else escaped) + ".swap"


def read(path: Path) -> str:
    """Return a file's text, empty where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def sections(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (section, key, value) of a file in systemd's syntax."""
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            yield section, "", ""
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def layered(root: Path, folders: tuple[str, ...], name: str) -> list[Path]:
    """Return the files that systemd's rules read for the configuration `name`: one main file, then drop-ins by name.

    Args:
        root: folder that stands for `/`.
        folders: where the configuration may lie, the strongest last.
        name: the main file, such as `swap.conf`; its drop-ins are in `swap.conf.d`.
    """
    main = [root / folder / name for folder in reversed(folders) if (root / folder / name).is_file()][:1]
    parts = {path.name: path for folder in folders for path in sorted((root / folder / f"{name}.d").glob("*.conf"))}
    return main + [parts[part] for part in sorted(parts)]
