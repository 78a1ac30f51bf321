"""The image's definition and the toolbox that builds it, read from TOML and checked before anything is run."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .failure import ImageError

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
ACCOUNT_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
ARCHITECTURES = ("arm64",)


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
    """One image; `disk_bytes` is the size of its file system."""

    name: str
    suite: str
    architecture: str
    components: tuple[str, ...]
    hostname: str
    default_target: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]
    include: tuple[str, ...]
    disk_label: str
    disk_bytes: int
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


class Table:
    """One TOML table whose every key is taken exactly once; what is left over at the end is refused by name."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self._left = dict(values)
        self._known: list[str] = []

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """Return the value of `key`; without a default the key must be there. Raises ImageError."""
        self._known.append(key)
        if key not in self._left:
            if default is None:
                raise ImageError(f"{self.where}: key {key!r} is missing; add it ({kind.__name__} expected).")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ImageError(f"{self.where}: {key} is {value!r}, expected {kind.__name__}; correct it.")
        return value

    def names(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """Return a list of distinct strings that all match `pattern`. Raises ImageError."""
        values = self.take(key, list)
        for value in values:
            if not isinstance(value, str) or not value or (pattern and not pattern.fullmatch(value)):
                raise ImageError(f"{self.where}: {key} holds {value!r}, expected a valid name; correct it.")
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ImageError(f"{self.where}: {key} names {twice[0]} twice; remove one of them.")
        return tuple(values)

    def end(self) -> None:
        """Refuse what nobody took. Raises ImageError."""
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self._known)}."
            raise ImageError(f"{self.where}: unknown key {key!r}; {hint}")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises ImageError if it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; restore it from the repository.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} is not valid TOML ({error}); correct it.") from None


def load_definition(path: Path) -> Definition:
    """Return the image that the file defines. Raises ImageError at the first thing that is wrong."""
    table = Table(path.name, read_toml(path))
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
    definition = Definition(
        name=table.take("name", str),
        suite=table.take("suite", str),
        architecture=architecture,
        components=table.names("components"),
        hostname=table.take("hostname", str),
        default_target=table.take("default_target", str),
        packages=table.names("packages", PACKAGE_NAME),
        exclude=table.names("exclude"),
        include=table.names("include"),
        disk_label=disk.take("label", str),
        disk_bytes=size_mb * 2**20,
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
