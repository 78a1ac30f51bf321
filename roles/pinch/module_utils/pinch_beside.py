"""A release beside the one that serves: a unit like the service's, which nothing starts again and a reboot forgets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ansible.module_utils.pinch_files import place

UNITS = Path("/run/systemd/system")
LONGEST_S = 600
"""Seconds after which it ends by itself, where the run that began it was cut."""


def folder(unit: str, units: Path = UNITS) -> Path:
    """Return where the files of `unit` are that only it reads."""
    return units / f"{unit}.d"


def drop_in(program: Path, settings: Path, *lines: str) -> str:
    """Return what differs between the service's unit and that of `program` beside it; `lines` are its own."""
    own = "".join(f"{line}\n" for line in lines)
    return f"""[Unit]
Description=Pinch, a release beside the one that serves
[Service]
ExecStart=
ExecStart={program} serve
EnvironmentFile=
Restart=no
RuntimeMaxSec={LONGEST_S}
Environment=PINCH_CONFIG={settings}
{own}"""


def lay_out(unit: str, texts: Mapping[str, str], units: Path = UNITS) -> None:
    """Write the unit and its own files, named as in `folder`; the drop-in among them ends in `.conf`."""
    for name, text in texts.items():
        place(units / unit if name == unit else folder(unit, units) / name, text)
    systemctl("daemon-reload")


def clear(unit: str, units: Path = UNITS) -> bool:
    """End the unit and remove it; return whether there was one, or what a cut run left of it."""
    if not (units / unit).exists() and not folder(unit, units).exists():
        return False
    systemctl("stop", unit)
    systemctl("reset-failed", unit)
    shutil.rmtree(folder(unit, units), ignore_errors=True)
    (units / unit).unlink(missing_ok=True)
    systemctl("daemon-reload")
    return True


def systemctl(*words: str) -> str:
    """Call systemctl and return what it says; it may fail."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()
