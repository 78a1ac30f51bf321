"""Changes of swap on a board, in an order that a kill at any point leaves for the next run to finish."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils import pinch_files

from . import layout
from .plan import Content, Plan
from .record import to_text
from .wanted import Link

RESETS = 20
RESET_PAUSE_S = 0.5
Run = Callable[[list[str]], tuple[int, str]]
"""Runs a program on the board and returns its status and what it printed."""


class StuckError(RuntimeError):
    """A swap area could not be left; nothing else was changed."""


class ChangeError(RuntimeError):
    """A step failed; says which, and what to do."""


def apply(plan: Plan, root: Path, run: Run) -> None:
    """Do what `plan` says.

    The mark of a deferral also stands while the mechanisms change, so that a unit which somebody else starts
    meanwhile does not pull in the new one beside the old.

    Args:
        plan: the plan for the board below `root`.
        root: folder that stands for `/`.
        run: runs `systemctl`, `swapoff`, `mkswap` and `zramctl`.

    Raises:
        StuckError: an area could not be left.
        ChangeError: a program failed.
        OSError: a file could not be written.
    """
    moves = bool(plan.leave or plan.start)
    if plan.record is not None:
        place(root, layout.RECORD, to_text(plan.record))
    if plan.waits or moves:
        place(root, layout.DEFERRED, plan.waits + "\n")
    _make(plan, root, run, left=False)
    _leave(plan, root, run)
    _make(plan, root, run, left=True)
    for path, content in plan.files.items():
        place(root, path, content)
    if not plan.waits:
        _switch(plan, root, run, released=plan.release or moves)
    if plan.forget:
        place(root, layout.RECORD, None)


def _make(plan: Plan, root: Path, run: Run, *, left: bool) -> None:
    """Make the swap file: before the old mechanism is left, or only then where the two share the file."""
    if plan.make and (plan.make[0] in plan.leave) is left:
        make_swap_file(root, *plan.make, run)


def _switch(plan: Plan, root: Path, run: Run, *, released: bool) -> None:
    if plan.files or plan.start:
        _must(run, ["systemctl", "daemon-reload"])
    for path, value in plan.kernel:
        set_kernel(root, path, value)
    if released:
        place(root, layout.DEFERRED, None)
    if layout.ZRAM_UNIT in plan.start:
        _take_back_zram(root, run)
    if plan.start:
        _must(run, ["systemctl", "start", *plan.start])
    for path in plan.drop:
        (root / path.lstrip("/")).unlink(missing_ok=True)


def _take_back_zram(root: Path, run: Run) -> None:
    """Reset a device that is set up though nothing swaps to it, for it cannot be set up again.

    Its unit resets it when it is left, and gives up where udev reads the device just then.

    Raises:
        ChangeError: somebody uses it all the time.
    """
    if layout.read(root / layout.ZRAM_SIZE).strip() in {"", "0"} or _swaps_to(root, layout.ZRAM):
        return
    said = ""
    for _ in range(RESETS):
        status, said = run(["zramctl", "--reset", layout.ZRAM])
        if not status:
            return
        time.sleep(RESET_PAUSE_S)
    raise ChangeError(f"{layout.ZRAM} is in use, and not for swap ({said.strip()}); see `lsblk`, free it and run again")


def _leave(plan: Plan, root: Path, run: Run) -> None:
    if not plan.leave:
        return
    said = run(["systemctl", "stop", *plan.stop])[1]
    for path in plan.leave:
        if _swaps_to(root, path):
            said = run(["swapoff", path])[1] or said
        if _swaps_to(root, path):
            raise StuckError(f"{path} could not be left ({said.strip() or 'no reason was given'})")


def _swaps_to(root: Path, path: str) -> bool:
    return any(line.split()[0] == path for line in layout.read(root / "proc/swaps").splitlines()[1:])


def _must(run: Run, command: list[str]) -> None:
    status, said = run(command)
    if status:
        raise ChangeError(
            f"`{' '.join(command)}` failed: {said.strip()}; look at `systemctl status '*.swap' "
            "systemd-zram-setup@zram0.service` and run again"
        )


def set_kernel(root: Path, path: str, value: str) -> None:
    """Write a value into the running kernel.

    Raises:
        ChangeError: the kernel refuses it.
    """
    try:
        (root / path).write_text(value, "ascii")
    except OSError as error:
        raise ChangeError(
            f"the kernel refuses {value} for /{path}: {error.strerror}; choose another value, such as an empty "
            "swap_algorithm for the kernel's own"
        ) from None


def place(root: Path, path: str, content: Content) -> None:
    """Put text or a link at `path` below `root`, or remove what is there; a power cut leaves the old or the new."""
    target = root / path
    if isinstance(content, Link):
        pinch_files.point(target, content.target)
        return
    if path == layout.RECORD and content is None:
        pinch_files.clear(target)
    else:
        pinch_files.put(target, content)


def make_swap_file(root: Path, path: str, size_bytes: int, run: Run) -> None:
    """Make a swap file for this board's own page size; it has its name only when it is whole.

    Raises:
        ChangeError: there is no room, or `mkswap` failed.
    """
    target = root / path.lstrip("/")
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    # What is there has another size or page size, and there may be no room for both.
    target.unlink(missing_ok=True)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        status, said = run(["mkswap", str(partial)])
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ChangeError(
            f"{path} of {size_bytes // layout.MEBIBYTE} MB cannot be made: {error.strerror}; free some of the card, or "
            "lower swap_size_mb, and run again"
        ) from None
    if status:
        partial.unlink()
        raise ChangeError(f"mkswap refused {path}: {said.strip()}; run it by hand to see why, and run again")
    partial.replace(target)
    pinch_files.flush(target.parent)
