"""Tiers: what a board may hold, decided by the memory it is sold with."""

from __future__ import annotations

import platform
import struct
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 1024 * 1024
KIBIBYTE = 1024


class TierError(ValueError):
    """A tier that is unknown, or that this machine cannot hold."""


class Machine(NamedTuple):
    """What tier detection looks at."""

    mem_total: int
    """Memory the kernel reports as MemTotal, in bytes."""
    machine: str
    """`uname -m`, such as `aarch64`."""
    bits: int = 64
    """Width of a userland pointer: 32 under a 32-bit userland, whatever the kernel is."""

    @property
    def is_arm32(self) -> bool:
        """Whether programs here are 32-bit Arm ones, for which there is no ONNX Runtime."""
        return (self.machine.startswith("arm") and not self.machine.startswith("arm64")) or (
            self.machine == "aarch64" and self.bits == 32
        )


class Tier(NamedTuple):
    """One row of `tiers.toml`; sizes are in the unit their name says."""

    name: str
    budget_mb: int
    memory_high_mb: int
    memory_max_mb: int
    memory_swap_max_mb: int
    model: str
    readers: int
    sqlite_cache_kb: int
    max_connections: int
    max_body_kb: int
    send_buffer_kb: int
    """What one WebSocket client may leave untaken."""
    max_runs: int
    """Answers in the making at once."""
    session_kb: int
    """A session's file past which it is compacted."""
    accounts: Mapping[str, int]
    """Limit of each account, KiB of anonymous memory."""
    host: Mapping[str, object]
    """What the host around the service sets aside; Ansible reads it."""
    below_mb: int | None = None
    """Nominal RAM below which a machine is of this tier; None for the largest."""

    @property
    def semantic(self) -> bool:
        """Whether this tier carries an embedding model."""
        return bool(self.model)

    @property
    def accounts_total(self) -> int:
        """Sum of the account limits in bytes."""
        return sum(self.accounts.values()) * KIBIBYTE

    @property
    def host_reserve_bytes(self) -> int:
        """Bytes left to everything on the machine that is not this service."""
        return int(str(self.host["reserve_mb"])) * MEBIBYTE


class TierTable(NamedTuple):
    """All tiers, smallest first."""

    nominal_mb: tuple[int, ...]
    tiers: Mapping[str, Tier]

    def named(self, name: str) -> Tier:
        """Return the tier called `name`.

        Raises:
            TierError: no such tier.
        """
        if name not in self.tiers:
            known = ", ".join(self.tiers)
            raise TierError(f"tier is {name!r}; expected auto, {known}")
        return self.tiers[name]

    def nominal(self, mem_total: int) -> int:
        """Return the MiB a board with `mem_total` bytes is sold as.

        The kernel keeps some memory for itself, so MemTotal is rounded up to the next size that
        boards come in; above the largest, MemTotal itself counts.
        """
        total_mb = -(-mem_total // MEBIBYTE)
        return next((size for size in self.nominal_mb if total_mb <= size), total_mb)

    def detect(self, machine: Machine) -> Tier:
        """Return the tier of `machine`: 32-bit Arm is minimal, all else goes by nominal RAM."""
        ordered = list(self.tiers.values())
        if machine.is_arm32:
            return ordered[0]
        nominal = self.nominal(machine.mem_total)
        return next(tier for tier in ordered if tier.below_mb is None or nominal < tier.below_mb)

    def smaller(self, tier: Tier) -> Tier | None:
        """Return the next smaller tier, or None below the smallest."""
        names = list(self.tiers)
        position = names.index(tier.name)
        return self.tiers[names[position - 1]] if position else None


def fits(tier: Tier, machine: Machine) -> str | None:
    """Say why `tier` does not fit on `machine`, or None where it does."""
    if tier.accounts_total > tier.budget_mb * MEBIBYTE:
        accounts = " + ".join(f"{name} {kb} KiB" for name, kb in tier.accounts.items())
        return (
            f"the accounts of tier {tier.name} come to {tier.accounts_total // KIBIBYTE} KiB ({accounts}), "
            f"more than its budget of {tier.budget_mb} MB"
        )
    if tier.semantic and machine.is_arm32:
        return f"tier {tier.name} needs ONNX Runtime, which does not exist for 32-bit Arm"
    need = tier.memory_max_mb * MEBIBYTE + tier.host_reserve_bytes
    if need > machine.mem_total:
        return (
            f"tier {tier.name} needs {tier.memory_max_mb} MB for the service and "
            f"{tier.host_reserve_bytes // MEBIBYTE} MB for the host, "
            f"and this machine has {machine.mem_total // MEBIBYTE} MB"
        )
    return None


def load_tiers(text: str | None = None) -> TierTable:
    """Read the table that ships with the package, or `text` in its place (TOML)."""
    if text is None:
        text = Path(__file__).with_name("tiers.toml").read_text("utf-8")
    raw = tomllib.loads(text)
    tiers = {name: Tier(name=name, **row) for name, row in raw["tiers"].items()}
    return TierTable(nominal_mb=tuple(raw["nominal_mb"]), tiers=tiers)


def this_machine(meminfo: Path = Path("/proc/meminfo")) -> Machine:
    """Read what tier detection needs from the running kernel."""
    return Machine(
        mem_total=read_meminfo(meminfo)["MemTotal"],
        machine=platform.machine(),
        bits=struct.calcsize("P") * 8,
    )


def read_meminfo(path: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """Return `/proc/meminfo` as bytes by name."""
    values = {}
    for line in path.read_text("ascii").splitlines():
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        values[name] = int(number) * (KIBIBYTE if unit == "kB" else 1)
    return values
