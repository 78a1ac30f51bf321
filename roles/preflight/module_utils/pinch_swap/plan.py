"""The way from how a board swaps to how it should: what to write, what to stop, what to start, and whether now."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import layout
from .layout import MEBIBYTE
from .makers import dphys_file, fstab
from .record import Record
from .state import Area, State
from .swapfile import swap_header
from .wanted import Link, Wish, current_files, dphys_wants, wanted_files, zswap_values

TIMES_AVAILABLE = 2
"""What is swapped out has to fit so many times into the memory available, or the change waits for the next boot."""
ON_DISK = ("file", "zswap")
Content = str | Link | None
"""Text or link in the place of a file; None where there is none."""


class Plan(NamedTuple):
    """What to do. Without a wait the steps are live; with one only files are placed, for the next boot."""

    files: dict[str, Content]
    """What has to be at each path; only what differs."""
    before: dict[str, Content]
    """What these paths hold now."""
    record: Record | None = None
    """What to remember; None where that stands already, or is to be forgotten."""
    forget: bool = False
    """Whether the board is as it was found, so that nothing has to be remembered."""
    make: tuple[str, int] | None = None
    """A swap file to make, and its bytes."""
    stop: tuple[str, ...] = ()
    """Units to stop."""
    leave: tuple[str, ...] = ()
    """Swap areas that must be gone then."""
    drop: tuple[str, ...] = ()
    """Swap files to remove."""
    kernel: tuple[tuple[str, str], ...] = ()
    """Paths below `/sys` and the values to write there, in this order."""
    start: tuple[str, ...] = ()
    """Units to start."""
    waits: str = ""
    """Why the change waits for the next boot; empty where it does not."""
    release: bool = False
    """Whether the mark of an earlier wait has to go."""

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do now."""
        steps = (
            self.files,
            self.record,
            self.make,
            self.leave,
            self.drop,
            self.kernel,
            self.start,
            self.forget,
            self.release,
        )
        return not any(steps)

    @property
    def words(self) -> list[str]:
        """The steps as a person would say them."""
        said = [f"{'remove' if text is None else 'write'} /{path}" for path, text in self.files.items()]
        said += [f"make {self.make[0]} of {self.make[1] // MEBIBYTE} MB"] if self.make else []
        said += [f"stop swapping to {path}" for path in self.leave]
        said += [f"remove {path}" for path in self.drop]
        said += [f"set /{path} to {value}" for path, value in self.kernel]
        return said + [f"start {unit}" for unit in self.start]


def plan_change(state: State, wish: Wish, root: Path) -> Plan:
    """Return what has to be done.

    Args:
        state: how the board swaps now.
        wish: how it should.
        root: folder that stands for `/`, where the files are.
    """
    if not wish.ours and state.record is None:
        return Plan({}, {})
    wish = wish_now(wish, state)
    files, before = differing(state, wish, root)
    fits = live_fits(state, wish) and not (files and not wish.ours and wish.mechanism not in {"none", "file"})
    waits = "" if fits else why_not_live(state, wish)
    live = not fits and not waits
    leave = tuple(area.path for area in state.areas) if live else ()
    used = {area.path for area in state.areas} - set(leave)
    draft = Plan(
        files,
        before,
        make=missing_file(state, wish, used),
        stop=tuple(unit for area in state.areas for unit in units_of(area)) if live else (),
        leave=leave,
        drop=() if waits else tuple(path for path in leftovers(state, wish, root) if path not in used),
        kernel=() if waits else tuple(kernel_values(state, wish, started=live).items()),
        start=starting(wish) if live else (),
        waits=waits,
        release=state.deferred and not waits,
    )
    if not wish.ours:
        return draft._replace(forget=draft.nothing and not waits)
    record = remembered(state, wish, root)
    return draft._replace(record=record if record != state.record else None)


def wish_now(wish: Wish, state: State) -> Wish:
    """Return the wish, or what was found before the first change where the board is to be given back."""
    return wish if wish.ours or state.record is None else Wish(state.record.mechanism, ours=False)


def settled(state: State, wish: Wish) -> bool:
    """Say whether the live kernel swaps exactly as wished."""
    if not wish.ours and state.record is None:
        return True
    wish = wish_now(wish, state)
    return live_fits(state, wish) and not kernel_values(state, wish, started=False)


def live_fits(state: State, wish: Wish) -> bool:
    """Say whether a board swaps by the wanted mechanism alone and in its size; limits can be set while it does."""
    if wish.mechanism == "none":
        return not state.areas
    if len(state.areas) != 1:
        return False
    (area,) = state.areas
    if wish.adopted or (not wish.ours and wish.mechanism == "file"):
        return area.maker == "fstab" and wish.file in {"", area.path}
    # A cache can be put before a file that is in use; taken away, it keeps what it holds.
    same = area.mechanism == wish.mechanism or (area.mechanism, wish.mechanism) == ("file", "zswap")
    return same and (not wish.ours or _shaped(area, wish))


def _shaped(area: Area, wish: Wish) -> bool:
    there = wish.mechanism not in ON_DISK or area.path == wish.file
    compressed = wish.mechanism not in {"zram", "rpi-swap"} or wish.algorithm in {"", area.algorithm}
    # An area is shorter than its device or file by one page, the header; pages have 4 to 64 KiB.
    short = wish.size_mb * MEBIBYTE - area.size_bytes
    return there and compressed and 0 <= short <= 64 * layout.KIBIBYTE


def why_not_live(state: State, wish: Wish) -> str:
    """Say why a change has to wait for the next boot; empty where it has not."""
    if wish.mechanism == "rpi-swap" or "rpi-swap" in state.in_use:
        return "rpi-swap sets swap up at boot and at no other time"
    swapped = sum(area.used_bytes for area in state.areas)
    if swapped * TIMES_AVAILABLE > state.available_bytes:
        return (
            f"{swapped // MEBIBYTE} MB are swapped out, and would not fit in half of the "
            f"{state.available_bytes // MEBIBYTE} MB available"
        )
    if state.squeezed:
        return f"{', '.join(state.squeezed)} would be over the memory limit with all of it back in RAM"
    return ""


def differing(state: State, wish: Wish, root: Path) -> tuple[dict[str, Content], dict[str, Content]]:
    """Return the files that have to change, and what they hold now."""
    wanted: dict[str, Content] = dict.fromkeys(removable(state, root))
    wanted |= wanted_files(wish, state, root)
    before = current_files(wanted, root)
    # Enabled is enabled, whatever path the vendor's link takes.
    enabled = wanted.get(dphys_wants()) is not None and before.get(dphys_wants()) is not None
    changed = {
        path: content
        for path, content in wanted.items()
        if before[path] != content and not (enabled and path == dphys_wants())
    }
    return changed, {path: before[path] for path in changed}


def removable(state: State, root: Path) -> list[str]:
    """Return the paths where something of ours may be: whole files, links for dphys, units of swap files we made."""
    paths = list(layout.OURS)
    for made in state.record.made if state.record else ():
        unit = layout.unit_of(made)
        paths += [f"{layout.SYSTEM}/{unit}", f"{layout.WANTS}/{unit}"]
    if "dphys" in state.tools:
        mask = root / layout.OUR_DPHYS_MASK
        masked = mask.is_symlink() and str(mask.readlink()) == "/dev/null"
        paths += [layout.OUR_DPHYS_MASK] if masked else []
        paths += [dphys_wants()] if state.record and not state.record.dphys_enabled else []
    return paths


def missing_file(state: State, wish: Wish, used: set[str]) -> tuple[str, int] | None:
    """Return the swap file to make: none of that size and page size is there. One in use stays as it is."""
    if wish.mechanism not in ON_DISK or wish.adopted or not wish.ours or wish.file in used:
        return None
    size = wish.size_mb * MEBIBYTE
    found = (state.file.path, state.file.swap_page_bytes, state.file.size_bytes)
    return None if found == (wish.file, state.page_bytes, size) else (wish.file, size)


def remembered(state: State, wish: Wish, root: Path) -> Record:
    """Return the record as it has to be while a wish of ours holds."""
    mask = root / layout.OUR_DPHYS_MASK
    mechanism = next((area.mechanism or "file" for area in state.areas), "none")
    found = state.record or Record(
        mechanism,
        dphys_enabled=(root / dphys_wants()).is_symlink(),
        dphys_masked=mask.is_symlink() and str(mask.readlink()) == "/dev/null",
    )
    if wish.mechanism in ON_DISK and not wish.adopted and wish.file not in found.made:
        found = found._replace(made=(*found.made, wish.file))
    return found


def leftovers(state: State, wish: Wish, root: Path) -> list[str]:
    """Return swap files that nobody needs any more: those we made, and that of a dphys which is switched off."""
    made = state.record.made if state.record else ()
    kept = wish.file if wish.mechanism in ON_DISK else ""
    paths = [path for path in made if path != kept] + [f"{path}.partial" for path in made]
    off = wish.ours and "dphys" in state.tools and wish.mechanism != "dphys"
    # rpi-swap, too, keeps its file there, behind a loop device that /proc/swaps does not name.
    if off and wish.mechanism != "rpi-swap" and "rpi-swap" not in state.in_use:
        vendor = dphys_file(root)
        spare = vendor not in {kept, *paths, *fstab(root)} and swap_header(root / vendor.lstrip("/")) > 0
        paths += [vendor] if spare else []
    return [path for path in paths if (root / path.lstrip("/")).is_file()]


def kernel_values(state: State, wish: Wish, *, started: bool) -> dict[str, str]:
    """Return the values that differ in the running kernel, by path: how zswap is set, then zram's limit.

    Args:
        state: how the board swaps now.
        wish: how it should.
        started: whether the mechanism is started anew, which sets zram's limit.
    """
    if not wish.ours:
        return {}
    live = {
        "enabled": "Y" if state.zswap.enabled else "N",
        "max_pool_percent": str(state.zswap.percent),
        "compressor": state.zswap.compressor,
    }
    wanted = zswap_values(wish, state.memory_bytes) if state.zswap.present else {}
    values = {f"{layout.ZSWAP}/{name}": value for name, value in wanted.items() if live[name] != value}
    bound = wish.limit_mb * MEBIBYTE
    loose = any(area.kind == "zram" and area.limit_bytes != bound for area in state.areas)
    if wish.mechanism in {"zram", "rpi-swap"} and loose and not started:
        values["sys/block/zram0/mem_limit"] = f"{wish.limit_mb}M"
    return values


def units_of(area: Area) -> tuple[str, ...]:
    """Return the units to stop so that an area is left."""
    unit = layout.unit_of(area.path)
    if area.kind == "zram":
        return unit, f"systemd-zram-setup@{Path(area.path).name}.service"
    return (layout.DPHYS_UNIT, unit) if area.maker == "dphys" else (unit,)


def starting(wish: Wish) -> tuple[str, ...]:
    """Return the unit that starts the wanted mechanism."""
    if wish.mechanism in ON_DISK and wish.ours and not wish.adopted:
        return (layout.unit_of(wish.file),)
    units = {"zram": (layout.ZRAM_UNIT,), "dphys": (layout.DPHYS_UNIT,)}
    return units.get(wish.mechanism, ())
