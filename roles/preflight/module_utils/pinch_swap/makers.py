"""Who sets swap up on a board, now and at the next boot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from . import layout
from .layout import read
from .record import Record


def mechanism_of(maker: str, *, zswap: bool) -> str:
    """Return the mechanism behind an area of `maker`, empty where it is none of ours."""
    disk = "zswap" if zswap else "file"
    return {"zram-generator": "zram", "rpi-swap": "rpi-swap", "dphys": "dphys", "pinch": disk}.get(maker, "")


def zram_maker(root: Path, name: str, record: Record | None) -> str:
    """Say who set up the zram device `name`."""
    if name == "zram0" and (root / layout.RPI_LIVE).exists():
        return "rpi-swap"
    generated = root / f"run/systemd/generator/dev-{name}.swap"
    if generated.exists() or (name == "zram0" and record is not None):
        return "zram-generator"
    return "zram-tools" if zram_tools_enabled(root) else "unknown"


def area_maker(root: Path, path: str, kind: str, tools: frozenset[str], record: Record | None) -> str:
    """Say who set up a swap file or partition."""
    if kind == "file":
        if is_ours(root, layout.unit_of(path), record):
            return "pinch"
        if path in fstab(root):
            return "fstab"
        if "rpi-swap" in read(root / "run/systemd/generator" / layout.unit_of(path)):
            return "rpi-swap"
        if "dphys" in tools and path == dphys_file(root):
            return "dphys"
        return "unknown"
    return "fstab" if any(_same(root, path, entry) for entry in fstab(root)) else "unknown"


def _same(root: Path, path: str, entry: str) -> bool:
    kind, _, value = entry.partition("=")
    if not value:
        return entry == path
    link = root / "dev/disk" / f"by-{kind.lower()}" / value.strip('"')
    return link.is_symlink() and link.readlink().name == Path(path).name


def fstab(root: Path) -> list[str]:
    """Return what `/etc/fstab` swaps to at boot."""
    fields = [line.split() for line in read(root / "etc/fstab").splitlines() if not line.lstrip().startswith("#")]
    return [row[0] for row in fields if len(row) > 3 and row[2] == "swap" and "noauto" not in row[3].split(",")]


def zram_tools_enabled(root: Path) -> bool:
    """Say whether zram-tools makes a device at boot."""
    link = root / layout.SYSTEM / "multi-user.target.wants/zramswap.service"
    return (root / layout.ZRAM_TOOLS).exists() and link.is_symlink()


def is_ours(root: Path, unit: str, record: Record | None) -> bool:
    """Say whether the unit of a swap file is ours: it says so, or its file is one that we made."""
    made = record is not None and unit in map(layout.unit_of, record.made)
    return made or layout.MARK in read(root / layout.SYSTEM / unit)


def configured_by_others(root: Path, record: Record | None) -> Iterator[tuple[str, str]]:
    """Yield (maker, where it says so) of what swaps at the next boot and is none of the mechanisms here."""
    for entry in fstab(root):
        yield "fstab", entry
    if zram_tools_enabled(root):
        yield "zram-tools", "zramswap.service"
    folders = tuple(f"{folder}/systemd" for folder in ("usr/lib", "usr/local/lib", "run", "etc"))
    for file in layout.layered(root, folders, "zram-generator.conf"):
        for section in {section for section, _, _ in layout.sections(read(file))}:
            if re.fullmatch(r"zram[1-9]\d*", section):
                yield "zram-generator", f"[{section}] in /{file.relative_to(root)}"
    for link in sorted((root / layout.WANTS).glob("*.swap")):
        if not is_ours(root, link.name, record):
            yield "unit", link.name


def rpi_file(root: Path) -> str:
    """Return the path of the file that rpi-swap would use."""
    found = layout.RPI_FILE
    for file in layout.layered(root, layout.RPI_FOLDERS, "swap.conf"):
        for section, key, value in layout.sections(read(file)):
            found = value if (section, key) == ("File", "Path") and value else found
    return found


def dphys_file(root: Path) -> str:
    """Return the path of the file that dphys-swapfile would use; its configuration is a shell script of assignments."""
    found = re.findall(r"^[ \t]*CONF_SWAPFILE=(\S+)", read(root / layout.DPHYS_CONF), re.MULTILINE)
    return str(found[-1]).strip("\"'") if found else layout.DPHYS_FILE
