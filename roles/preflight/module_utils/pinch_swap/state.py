"""How a board swaps right now, and what would make it swap at the next boot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import layout
from .layout import KIBIBYTE, read
from .makers import area_maker, configured_by_others, mechanism_of, zram_maker
from .record import Record, read_record
from .swapfile import SwapFile, inspect_file


class Area(NamedTuple):
    """A line of `/proc/swaps`."""

    path: str
    kind: str
    """`zram`, `file` or `partition`."""
    maker: str
    """Who set it up: `pinch`, `zram-generator`, `rpi-swap`, `dphys`, `zram-tools`, `fstab` or `unknown`."""
    mechanism: str
    """One of `MECHANISMS`; empty where it is none of them."""
    size_bytes: int
    """Without the header, which takes one page."""
    used_bytes: int
    limit_bytes: int = 0
    """RAM that zram may take, 0 where it is unbounded or this is no zram."""
    algorithm: str = ""
    """Compression of a zram."""


class Zswap(NamedTuple):
    """The kernel's compressed cache before a swap area."""

    present: bool = False
    enabled: bool = False
    percent: int = 0
    """Part of the RAM its pool may take."""
    compressor: str = ""


class State(NamedTuple):
    """All that a plan looks at."""

    areas: tuple[Area, ...] = ()
    zswap: Zswap = Zswap()
    tools: frozenset[str] = frozenset()
    """Of `rpi-swap`, `dphys`, `zram-generator` and `zram-tools`, those that are installed."""
    others: tuple[tuple[str, str], ...] = ()
    """(maker, where it says so) of what swaps at the next boot and is none of the mechanisms here."""
    file: SwapFile = SwapFile("")
    page_bytes: int = 4096
    memory_bytes: int = 0
    available_bytes: int = 0
    squeezed: tuple[str, ...] = ()
    """Control groups whose limit is too low for what of theirs is swapped out."""
    deferred: bool = False
    """Whether a change waits for the next boot."""
    record: Record | None = None

    @property
    def in_use(self) -> list[str]:
        """Mechanisms that swap right now, foreign ones by their maker."""
        return sorted({area.mechanism or area.maker for area in self.areas})


def read_state(root: Path, path: str) -> State:
    """Read a board below `root`; `path` is where a swap file is wanted, empty where none is."""
    record = read_record(root)
    tools = installed(root)
    memory = meminfo(root)
    zswap = read_zswap(root)
    return State(
        areas=tuple(read_areas(root, tools, zswap, record)),
        zswap=zswap,
        tools=tools,
        others=tuple(configured_by_others(root, record)),
        file=inspect_file(root, path) if path else SwapFile(""),
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        memory_bytes=memory.get("MemTotal", 0),
        available_bytes=memory.get("MemAvailable", 0),
        squeezed=tuple(squeezed_groups(root)),
        deferred=(root / layout.DEFERRED).exists(),
        record=record,
    )


def facts(state: State) -> dict[str, Any]:
    """Return what the controller plans with, as plain values."""
    return {
        "areas": [area._asdict() for area in state.areas],
        "in_use": state.in_use,
        "zswap": state.zswap._asdict(),
        "tools": sorted(state.tools),
        "others": [list(other) for other in state.others],
        "file": state.file._asdict(),
        "page_bytes": state.page_bytes,
    }


def from_facts(swap: Mapping[str, Any]) -> State:
    """Return the state that `facts` was made of, as far as refusals look at it."""
    return State(
        areas=tuple(Area(**area) for area in swap["areas"]),
        zswap=Zswap(**swap["zswap"]),
        tools=frozenset(swap["tools"]),
        others=tuple((maker, what) for maker, what in swap["others"]),
        file=SwapFile(**swap["file"]),
        page_bytes=swap["page_bytes"],
    )


def installed(root: Path) -> frozenset[str]:
    """Return the tools that could set up swap."""
    files = {
        "rpi-swap": (layout.RPI_GENERATOR, layout.RPI_CONF),
        "dphys": layout.DPHYS_PROGRAMS,
        "zram-generator": layout.ZRAM_GENERATORS,
        "zram-tools": (layout.ZRAM_TOOLS,),
    }
    return frozenset(tool for tool, paths in files.items() if any((root / path).exists() for path in paths))


def meminfo(root: Path) -> dict[str, int]:
    """Return `/proc/meminfo` in bytes by name."""
    values = {}
    for line in read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        values[name] = int(number) * (KIBIBYTE if unit == "kB" else 1)
    return values


def read_zswap(root: Path) -> Zswap:
    """Return how zswap is set."""
    folder = root / layout.ZSWAP
    percent = read(folder / "max_pool_percent").strip()
    return Zswap(
        present=folder.is_dir(),
        enabled=read(folder / "enabled").strip() in {"Y", "1"},
        percent=int(percent) if percent.isdigit() else 0,
        compressor=read(folder / "compressor").strip(),
    )


def read_areas(root: Path, tools: frozenset[str], zswap: Zswap, record: Record | None) -> Iterator[Area]:
    """Yield what `/proc/swaps` lists, with who made it."""
    for line in read(root / "proc/swaps").splitlines()[1:]:
        escaped, kind, size, used, *_ = line.split()
        path = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), escaped).removesuffix(" (deleted)")
        name = Path(path).name
        zram = name.startswith("zram")
        maker = zram_maker(root, name, record) if zram else area_maker(root, path, kind, tools, record)
        numbers = read(root / f"sys/block/{name}/mm_stat").split() if zram else []
        chosen = re.search(r"\[(.+?)\]", read(root / f"sys/block/{name}/comp_algorithm")) if zram else None
        yield Area(
            path,
            "zram" if zram else kind,
            maker,
            mechanism_of(maker, zswap=zswap.enabled),
            int(size) * KIBIBYTE,
            int(used) * KIBIBYTE,
            # The kernel's mm_stat lists orig_data_size compr_data_size mem_used_total mem_limit …
            int(numbers[3]) if len(numbers) > 3 else 0,
            chosen[1] if chosen else "",
        )


def squeezed_groups(root: Path) -> Iterator[str]:
    """Yield the control groups that would be over their limit with all they have swapped out back in RAM.

    Once its swap is gone the kernel has nowhere to put such a group's memory and kills in it.
    """
    groups = root / "sys/fs/cgroup"
    for file in sorted(groups.glob("**/memory.swap.current")):
        swapped, limit = read(file).strip(), read(file.with_name("memory.max")).strip()
        if not swapped.isdigit() or swapped == "0" or not limit.isdigit():
            continue
        lines: Sequence[list[str]] = [line.split() for line in read(file.with_name("memory.stat")).splitlines()]
        held = sum(int(row[1]) for row in lines if row[0] in {"anon", "kernel", "shmem"})
        if held + int(swapped) > int(limit):
            yield file.parent.name
