"""A 32-bit board without a network: what the roles bring to it, and the service at work there, under qemu."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cache import REPOSITORY, cache_folder
from tests.client import Client, RefusedError
from tests.distribution.trees import Tree, debian
from tests.report import Figures
from tests.running import free_port

RELEASE = "distribution-3.13-armhf"
INSTALL = [
    {"name": "Look at the board", "hosts": "pinch", "gather_facts": False, "roles": ["preflight", "packages"]},
    {
        "name": "Install the release",
        "hosts": "pinch",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Unpack, compile and link the release",
                "release_tree": {
                    "home": "/opt/pinch",
                    "launcher": "/usr/local/bin/pinch",
                    "name": "{{ built.name }}",
                    "archive": "{{ pushed }}",
                    "sha256": "{{ built.sha256 }}",
                },
                "when": "not ansible_check_mode",
            }
        ],
    },
]
START_S = 180.0
CACHE = {"PINCH_CACHE": str(cache_folder("trees") / "controller")}
"""Root fills it, so it is not the user's own."""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A fresh Debian for armhf, whose system says it is 32-bit Raspberry Pi OS."""
    tree = debian("armhf", ["python3", "systemd"], tmp_path_factory.mktemp("board") / "tree")
    tree.write("/etc/rpi-issue", "Raspberry Pi reference 2026-05-06\n")
    tree.write(
        "/etc/os-release",
        'PRETTY_NAME="Raspbian GNU/Linux 13 (trixie)"\nID=raspbian\nID_LIKE=debian\nVERSION_ID="13"\n',
    )
    return tree


def play(board: Tree, *options: str, plays: list[dict[str, Any]] | None = None, extra: str = "", **more: Any) -> str:
    """Run `plays` on the board with the real ansible-playbook; return what it printed and its exit status."""
    folder = board.folder
    (folder / "play.json").write_text(json.dumps(plays or INSTALL), "utf-8")
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(board.interpreter(extra=extra)),
        "ansible_pipelining": True,
        "ansible_remote_tmp": str(board.scratch),
    }
    (folder / "hosts.json").write_text(json.dumps({"pinch": {"hosts": {"board": here}}}), "utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
        "ANSIBLE_LIBRARY": str(REPOSITORY / "roles/pinch/library"),
        "ANSIBLE_NOCOLOR": "1",
        **CACHE,
    }
    command = ["ansible-playbook", "-i", str(folder / "hosts.json"), str(folder / "play.json"), "-e", json.dumps(more)]
    done = subprocess.run(
        [*command, *options], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return f"{done.stdout}{done.stderr}\nexit status {done.returncode}\n"


def release(board: Tree) -> dict[str, Any]:
    """Build the release on this machine and put its archive where the board sees it; return variables for the play."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "roles/pinch/release"), **CACHE}
    command = [sys.executable, "-m", "pinch_release", "--service", str(REPOSITORY / "service"), RELEASE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    built = json.loads(done.stdout)["releases"][RELEASE]
    pushed = board.scratch / "release.tar.zst"
    pushed.write_bytes(Path(built["archive"]).read_bytes())
    return {"built": built, "pushed": str(pushed)}


def changed(printed: str) -> int:
    """Return the number of changed tasks; a run that failed fails the test."""
    assert "exit status 0" in printed, printed
    found = re.search(r"changed=([0-9]+)", printed)
    assert found is not None, printed
    return int(found[1])


def test_check_mode_says_what_would_come_and_changes_nothing(board: Tree) -> None:
    before = sorted(board.upper.rglob("*"))
    printed = play(board, "--check", "--diff")
    assert changed(printed) == 1
    for name in ("python3-aiohttp 3.11", "python3-apsw 3.46", "zstd 1.5", "systemd-zram-generator 1.2"):
        assert f"+{name}" in printed
    assert sorted(board.upper.rglob("*")) == before


@pytest.mark.parametrize(
    ("cmdline", "extra", "said"),
    [
        ("root=/dev/mmcblk0p2 rw\nquiet\n", "", "cmdline.txt has 2 lines; expected one"),
        ("\n", "", "cmdline.txt has 0 lines; expected one"),
        (
            "root=/dev/mmcblk0p2 rw\n",
            'mount --bind "$2/root/boot/firmware" "$2/root/boot/firmware"; '
            'mount -o remount,bind,ro "$2/root/boot/firmware"',
            "mounted read-only",
        ),
    ],
)
def test_a_boot_partition_that_cannot_be_changed_stops_the_run_before_anything_is(
    board: Tree, cmdline: str, extra: str, said: str
) -> None:
    groups = board.upper / "sys/fs/cgroup/cgroup.controllers"
    controllers = groups.read_text("ascii")
    groups.write_text("cpuset cpu io pids\n", "ascii")
    board.write("/boot/firmware/cmdline.txt", cmdline)
    before = sorted(board.upper.rglob("*"))
    try:
        printed = play(board, extra=extra)
        assert sorted(board.upper.rglob("*")) == before
    finally:
        (board.upper / "boot/firmware/cmdline.txt").unlink()
        groups.write_text(controllers, "ascii")
    assert "exit status 2" in printed
    assert said in " ".join(printed.split())


def test_the_board_gets_its_packages_and_the_release_and_nothing_the_second_time(board: Tree, figures: Figures) -> None:
    variables = release(board)
    begin = time.monotonic()
    assert changed(play(board, **variables)) == 3  # pushed, installed, unpacked
    figures.add("packages and release onto armhf under qemu", time.monotonic() - begin, "s")
    assert changed(play(board, **variables)) == 0
    assert not (board.upper / "var/tmp/pinch-packages.tar").exists()
    held = sum(path.stat().st_size for path in (board.upper / "opt").rglob("*") if path.is_file())
    figures.add("release with bytecode on armhf", held / 2**20, "MB", "≤ 25 MB")
    assert held < 25 * 2**20


def test_an_installation_that_was_cut_is_gone_on_with(board: Tree) -> None:
    archives = (Path(CACHE["PINCH_CACHE"]) / "packages" / "archives").glob("*.tar")
    with tarfile.open(max(archives, key=lambda path: path.stat().st_mtime)) as tar:
        (entry,) = (entry for entry in tar if entry.name.startswith("zstd_"))
        content = tar.extractfile(entry)
        assert content is not None
        file = board.scratch / entry.name
        file.write_bytes(content.read())
    assert board.run(["dpkg", "--unpack", str(file)]).returncode == 0
    assert "zstd" in board.run(["dpkg", "--audit"]).stdout
    variables = release(board)
    assert changed(play(board, **variables)) == 1
    assert board.run(["dpkg", "--audit"]).stdout == ""


@pytest.fixture(scope="module")
def service(board: Tree) -> Iterator[Client]:
    """The service, started on the board as its unit would start it."""
    port = free_port()
    state = board.scratch / "state"
    (board.scratch / "tokens").write_text("test " + "t" * 43 + "\n", "ascii")
    (board.scratch / "tokens").chmod(0o600)
    command = board.enter(
        ["/usr/local/bin/pinch", "serve"],
        PINCH_LISTEN=f"127.0.0.1:{port}",
        PINCH_STATE_DIR=str(state),
        PINCH_TOKENS_FILE=str(board.scratch / "tokens"),
        MALLOC_ARENA_MAX="1",
    )
    log = board.scratch / "service.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            end = time.monotonic() + START_S
            while not _ready(port):
                assert process.poll() is None, log.read_text("utf-8", "replace")
                assert time.monotonic() < end, log.read_text("utf-8", "replace")
                time.sleep(0.2)
            with Client("127.0.0.1", port, "t" * 43, 120) as client:
                yield client
        finally:
            # A signal to end reaches unshare, which does not hand it on; its death takes the service along.
            process.kill()


def _ready(port: int) -> bool:
    try:
        with Client("127.0.0.1", port, "t" * 43, 10) as client:
            return bool(client.call("GET", "/readyz")["ready"])
    except (OSError, RefusedError):
        return False


def test_a_32_bit_board_remembers_and_recalls_by_word(service: Client) -> None:
    status = service.call("GET", "/v1/budget")
    assert status["tier"] == "minimal"
    for number in range(40):
        service.call("POST", "/v1/memories", {"text": f"Kettle {number} stands on shelf {number * 7}", "thread": "t"})
    hits = service.call("POST", "/v1/recall", {"query": "shelf 273"})["hits"]
    assert hits[0]["text"] == "Kettle 39 stands on shelf 273"


def test_times_beyond_2038_survive_on_32_bits(service: Client) -> None:
    late = "2040-02-29T12:00:00Z"
    made = service.call("POST", "/v1/memories", {"text": "A leap day after the end of 32-bit time", "at": late})
    found = service.call("GET", f"/v1/memories/{made['id']}")
    assert found["at"].startswith("2040-02-29T12:00:00")
