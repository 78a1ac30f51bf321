"""Checks of what a board and an inventory must have before anything is changed: clock, packages, disk, settings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pinch.settings import SettingsError, load_settings
from pinch.tiers import MEBIBYTE

from .toml import to_toml

OWNED_SETTINGS = {
    "tier": "set pinch_tier",
    "on_misfit": "set pinch_on_misfit",
    "state_dir": "it is /var/lib/pinch",
    "state_wait_s": "the unit sets it, for upgrades",
    "tokens_file": "it is /etc/pinch/tokens, handed over by systemd",
    "model_dir": "the role models installs the tier's model",
}
"""Settings that the roles decide, and what to do instead of setting them."""
OLDEST_SANE_CLOCK = 1_735_689_600
"""2025-01-01 UTC: no board can have been provisioned with this software earlier."""


def clock_problems(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[str]:
    """Say where the clock is too far off for certificates, tokens and the times of memories."""
    skew = abs(board["clock"] - int(wishes["now"]))
    if board["clock"] < OLDEST_SANE_CLOCK or skew > wishes["clock_skew_s"]:
        yield (
            f"the board's clock is {skew} s away from the controller's; expected at most {wishes['clock_skew_s']} s. "
            "Set it with `sudo timedatectl set-time` or give the board a time server"
        )


def settings_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Say which of the service's settings would not be taken, in the service's own words."""
    for name, instead in OWNED_SETTINGS.items():
        if name in settings:
            yield f"pinch_settings holds {name}, which the roles decide: {instead}"
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(to_toml(settings))
        file.flush()
        try:
            load_settings({}, Path(file.name))
        except SettingsError as error:
            yield f"pinch_settings: {str(error).removeprefix(f'{file.name}: ')}"


def missing_packages(
    board: Mapping[str, Any], packages: Mapping[str, list[str]], flavour: str, mechanism: str
) -> list[str]:
    """Return the Debian packages that the board lacks for a release flavour and a swap mechanism."""
    needed = [name for part in ("base", flavour, mechanism) for name in packages.get(part, [])]
    return [name for name in needed if not board["packages"].get(name)]


def package_problems(missing: Sequence[str], source: str) -> Iterator[str]:
    """Say what to install where nobody may fetch packages for the board."""
    if missing and source == "none":
        yield (
            f"the board lacks Debian packages; run `sudo apt install {' '.join(missing)}` on it, or set "
            "packages_source to controller or board"
        )


def disk_problems(board: Mapping[str, Any], need_mb: int, swap: Mapping[str, Any]) -> Iterator[str]:
    """Say where there is less room than a release, a model and a swap file take."""
    extra_mb = swap["extra_mb"]
    for path, free in board["free_bytes"].items():
        need = need_mb + (extra_mb if path == "/var" else 0)
        if free < need * MEBIBYTE:
            part = f", {extra_mb} MB of them for the swap file" if need > need_mb else ""
            yield f"{path} has {free // MEBIBYTE} MB free; expected {need} MB{part}. Free some, or use a larger card"
