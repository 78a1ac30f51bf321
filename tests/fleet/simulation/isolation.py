"""Namespaces and mounts of a simulated board, by the system calls: Python has them from 3.12 on only."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWPID, _NEWNET = 0x00020000, 0x04000000, 0x20000000, 0x40000000
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def leave_the_machine() -> None:
    """Give the calling process mounts, network and name of its own, and its children process numbers of their own.

    Raises:
        OSError: the kernel refuses.
    """
    _checked(_LIBC.unshare(_NEWNS | _NEWUTS | _NEWPID | _NEWNET), "unshare")
    mount(None, Path("/"), flags=_REC | _PRIVATE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def mount(source: str | Path | None, target: Path, kind: str | None = None, flags: int = 0, data: str = "") -> None:
    """Mount, as mount(2) does.

    Raises:
        OSError: the kernel refuses.
    """
    words = [os.fsencode(word) if word is not None else None for word in (source, target, kind)]
    _checked(_LIBC.mount(*words, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def bind(source: Path, target: Path, *, recursive: bool = False) -> None:
    """Show a file or folder in a second place."""
    mount(source, target, flags=_BIND | (_REC if recursive else 0))


def read_only(target: Path) -> None:
    """Let nothing be written below the mount `target` any more."""
    mount(None, target, flags=_REMOUNT | _RDONLY)


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
