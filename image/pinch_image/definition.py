"""The image's definition and the toolbox that builds it, read from TOML and checked before anything is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .architecture import ARCHITECTURES
from .derivation import read_definition
from .failure import ImageError
from .table import Table, read_toml

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
POCKET_NAME = re.compile(r"updates|security")
ACCOUNT_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Account:
    """A person's account: never with a password, so it is entered by key only."""

    name: str
    groups: tuple[str, ...]
    shell: str
    sudo: str


@dataclass(frozen=True)
class File:
    """A file written as it stands, owned by root; `mode` is the permission bits."""

    path: str
    content: str
    mode: int


@dataclass(frozen=True)
class Definition:
    """One image; `disk_bytes` is the size of its root file system, `firmware_bytes` of the FAT that a Pi boots from."""

    name: str
    suite: str
    architecture: str
    components: tuple[str, ...]
    pockets: tuple[str, ...]
    hostname: str
    default_target: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    disk_label: str
    disk_bytes: int
    firmware_label: str
    firmware_bytes: int
    modules: tuple[str, ...]
    enable: tuple[str, ...]
    disable: tuple[str, ...]
    accounts: tuple[Account, ...]
    files: tuple[File, ...]


@dataclass(frozen=True)
class Toolbox:
    """Which native programs there are, and which of them stand in for the image's own and when."""

    packages: tuple[str, ...]
    emulated: frozenset[str]
    initramfs: frozenset[str]
    deferred: tuple[str, ...]


def load_definition(path: Path) -> Definition:
    """Return the image that the file defines. Raises ImageError at the first thing that is wrong."""
    table = Table(path.name, read_definition(path))
    if (schema := table.take("schema", int)) != 1:
        raise ImageError(f"{path.name}: schema is {schema}, this builder knows 1; use the builder it was written for.")
    architecture = table.take("architecture", str)
    if architecture not in ARCHITECTURES:
        raise ImageError(f"{path.name}: architecture is {architecture!r}, expected {' or '.join(ARCHITECTURES)}.")
    disk = Table(f"{path.name} [disk]", table.take("disk", dict))
    initramfs = Table(f"{path.name} [initramfs]", table.take("initramfs", dict))
    units = Table(f"{path.name} [units]", table.take("units", dict))
    size_mb = disk.take("size_mb", int)
    if not 1024 <= size_mb <= 65536:
        raise ImageError(f"{path.name} [disk]: size_mb is {size_mb}, expected 1024 to 65536.")
    firmware_mb = disk.take("firmware_mb", int)
    if not 64 <= firmware_mb <= 1024:
        raise ImageError(f"{path.name} [disk]: firmware_mb is {firmware_mb}, expected 64 to 1024.")
    definition = Definition(
        name=table.take("name", str),
        suite=table.take("suite", str),
        architecture=architecture,
        components=table.names("components"),
        pockets=table.names("pockets", POCKET_NAME),
        hostname=table.take("hostname", str),
        default_target=table.take("default_target", str),
        packages=table.names("packages", PACKAGE_NAME),
        exclude=table.names("exclude"),
        include=table.names("include"),
        disk_label=disk.take("label", str),
        disk_bytes=size_mb * 2**20,
        firmware_label=disk.take("firmware_label", str),
        firmware_bytes=firmware_mb * 2**20,
        modules=initramfs.names("modules"),
        enable=units.names("enable"),
        disable=units.names("disable"),
        accounts=tuple(_account(path.name, entry) for entry in table.take("account", list, [])),
        files=tuple(_file(path.name, entry) for entry in table.take("file", list, [])),
    )
    for part in (disk, initramfs, units, table):
        part.end()
    return definition


def load_toolbox(path: Path) -> Toolbox:
    """Return the toolbox that the file defines. Raises ImageError."""
    table = Table(path.name, read_toml(path))
    toolbox = Toolbox(
        packages=table.names("packages", PACKAGE_NAME),
        emulated=frozenset(table.names("emulated")),
        initramfs=frozenset(table.names("initramfs")),
        deferred=table.names("deferred"),
    )
    table.end()
    return toolbox


def _account(source: str, entry: Mapping[str, Any]) -> Account:
    table = Table(f"{source} [[account]]", entry)
    name = table.take("name", str)
    if not ACCOUNT_NAME.fullmatch(name):
        raise ImageError(f"{table.where}: name is {name!r}, expected a Unix account name such as 'pi'.")
    account = Account(name, table.names("groups"), table.take("shell", str), table.take("sudo", str, ""))
    table.end()
    return account


def _file(source: str, entry: Mapping[str, Any]) -> File:
    table = Table(f"{source} [[file]]", entry)
    path = table.take("path", str)
    if not path.startswith("/") or ".." in path.split("/"):
        raise ImageError(f"{table.where}: path is {path!r}, expected an absolute path without '..'.")
    mode = table.take("mode", str, "0644")
    if not re.fullmatch(r"0?[0-7]{3}", mode):
        raise ImageError(f"{table.where} {path}: mode is {mode!r}, expected octal permissions such as '0644'.")
    file = File(path, table.take("content", str).lstrip("\n"), int(mode, 8))
    table.end()
    return file
