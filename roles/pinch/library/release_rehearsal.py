#!/usr/bin/python
"""Ansible module: run a release beside the one that serves, on a copy of its store, before it takes over."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import Any

from ansible.module_utils import pinch_beside
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_board import Board
from ansible.module_utils.pinch_generations import Generations
from ansible.module_utils.pinch_paths import SERVICE, SETTINGS, TOKENS
from ansible.module_utils.pinch_service import Address, Service, address, first_token
from ansible.module_utils.pinch_switch import Switch
from ansible.module_utils.pinch_turn import TurnError, turn, unwind_when_ended

DOCUMENTATION = r"""
module: release_rehearsal
short_description: Run a release beside the one that serves
description:
  - Starts the release under its own unit's limits and sandbox, on a copy of the store and another port, and has it
    answer, remember and recall. The service that runs goes on meanwhile, so a release that does not start costs it
    nothing. Everything of the rehearsal is removed at the end, and ends by itself where the run is cut.
options:
  home:
    description: Folder that holds C(releases/).
    type: path
    required: true
  release:
    description: Release to rehearse; it is unpacked already.
    type: str
    required: true
  files:
    description: Text of its settings and units by path; without them it goes back to those it had.
    type: dict
  snapshot:
    description: Snapshot of the store that is running.
    type: path
    required: true
  patience_s:
    description: Seconds that the start may take.
    type: float
    required: true
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Rehearse the release beside the one that runs
  release_rehearsal:
    home: /opt/pinch
    release: 1.0.0-0a1b2c3d
    files: "{{ files }}"
    snapshot: "{{ kept.file }}"
    patience_s: 180
"""
RETURN = r"""
seconds:
  description: From the start until it was ready.
  returned: success
  type: float
"""

UNIT = "pinch-rehearsal.service"
STATE = Path("/var/lib/pinch-rehearsal")
LOOK_S = 0.3


class RehearsalError(Exception):
    """A release that failed; the message says why."""


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clear() -> None:
    """Remove what a rehearsal is made of."""
    # It is given no time to end: nobody wants its store.
    pinch_beside.systemctl("kill", "--signal=SIGKILL", UNIT)
    pinch_beside.clear(UNIT)
    shutil.rmtree(STATE, ignore_errors=True)


def drop_in(program: Path, settings: Path, port: int) -> str:
    """Return what differs between the service's unit and its rehearsal, as a drop-in."""
    text: str = pinch_beside.drop_in(
        program,
        settings,
        "StateDirectory=",
        "StateDirectory=pinch-rehearsal pinch-rehearsal/tmp",
        "Environment=TMPDIR=%S/pinch-rehearsal/tmp SQLITE_TMPDIR=%S/pinch-rehearsal/tmp",
        f"Environment=PINCH_STATE_DIR=%S/pinch-rehearsal PINCH_LISTEN=127.0.0.1:{port}",
    )
    return text


def lay_out(program: Path, files: dict[str, str], snapshot: Path) -> Address:
    """Write the rehearsal's unit, settings and store; return where it will answer."""
    port = free_port()
    STATE.mkdir(mode=0o700)
    shutil.copyfile(snapshot, STATE / "pinch.db")
    shutil.chown(STATE / "pinch.db", "pinch", "pinch")
    shutil.chown(STATE, "pinch", "pinch")
    settings = pinch_beside.folder(UNIT) / "pinch.toml"
    texts = {
        "pinch.toml": files[SETTINGS],
        UNIT: files[SERVICE],
        "50-rehearsal.conf": drop_in(program, settings, port),
    }
    pinch_beside.lay_out(UNIT, texts)
    return Address("127.0.0.1", port, address(files[SETTINGS]).tls)


def rehearse(board: Board, service: Service, patience_s: float) -> float:
    """Start it and see it work; return the seconds until it was ready.

    Raises:
        RehearsalError: it does not.
    """
    begin = time.monotonic()
    pinch_beside.systemctl("start", "--no-block", UNIT)
    while True:
        running = board.running()
        waited = time.monotonic() - begin
        reason = service.not_ready()
        if running.active and not reason:
            break
        if running.begun and running.ended:
            raise RehearsalError("it ended at its start")
        if waited > patience_s:
            raise RehearsalError(f"it was not ready within {patience_s:.0f} s: {reason or 'systemd was not told'}")
        time.sleep(LOOK_S)
    fault = service.fault()
    if fault:
        raise RehearsalError(fault)
    return round(waited, 1)


def beside_what_serves(params: dict[str, Any]) -> float:
    """Lay a rehearsal out, see it work and remove everything of it; return the seconds until it was ready.

    Raises:
        RehearsalError: it does not work; with its last words.
    """
    home, release = Path(params["home"]), params["release"]
    generations = Generations(home)
    kept = generations.find(release)
    files = params["files"] or (kept.files if kept else None)
    if files is None:
        raise RehearsalError("this board does not know what it ran with. Its last words: none")
    Switch(Board(home, home / "bin", home, Path(SERVICE).name), generations).tidy()
    board = Board(home, home / "bin", home, UNIT)
    clear()
    try:
        where = lay_out(home / "releases" / release / "bin" / "pinch", files, Path(params["snapshot"]))
        return rehearse(board, Service(where, first_token(TOKENS)), params["patience_s"])
    except RehearsalError as error:
        raise RehearsalError(f"{error}. Its last words: {board.words() or 'none'}") from None
    finally:
        clear()


def main() -> None:
    """Rehearse, and leave nothing behind."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "release": {"type": "str", "required": True},
            "files": {"type": "dict"},
            "snapshot": {"type": "path", "required": True},
            "patience_s": {"type": "float", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, seconds=0, skipped=True)
    unwind_when_ended()
    unchanged = "Nothing was changed, and the service goes on with what it ran"
    try:
        with turn():
            seconds = beside_what_serves(module.params)
    except RehearsalError as error:
        module.fail_json(msg=f"release {module.params['release']} failed its rehearsal: {error}. {unchanged}")
    except TurnError as error:
        module.fail_json(msg=f"{error}. {unchanged}")
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; free the disk of the board and run again")
    # Nothing of it stays, so nothing has changed.
    module.exit_json(changed=False, seconds=seconds)


if __name__ == "__main__":
    main()
