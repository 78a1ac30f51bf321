"""The installed service: what runs, who may read what, where it listens."""

from __future__ import annotations

import hashlib
import json

import pytest
from pinch.settings import Settings

from tests.appliance import CONFIG, MODELS, RELEASE, STATE, TOKENS, UNIT, Board
from tests.client import Client, RefusedError
from tests.report import Figures

OWN_IMAGE = "/etc/systemd/resolved.conf.d/10-pinch.conf"
"""The file by which image/base.toml sees to it that a board answers to ssh and to nothing else."""
BROUGHT = "/var/lib/pinch-found/packages.json"
"""Names of the packages that the role `packages` has installed."""
EXPOSURE = 2.0
"""What `systemd-analyze security` may say at most."""


def test_unit_is_active_and_starts_at_boot(board: Board) -> None:
    assert board.properties("ActiveState", "SubState", "UnitFileState") == {
        "ActiveState": "active",
        "SubState": "running",
        "UnitFileState": "enabled",
    }


def test_no_failed_units(board: Board) -> None:
    assert board.run("systemctl list-units --failed --plain --no-legend") == ""


def test_unit_tells_systemd_when_it_is_ready_and_that_it_lives(board: Board) -> None:
    found = board.properties("Type", "NotifyAccess", "WatchdogUSec", "Restart", "StatusText")
    assert found["Type"] == "notify"
    assert found["WatchdogUSec"] not in {"0", "infinity"}
    assert found["Restart"] in {"always", "on-failure"}
    assert found["StatusText"]


def test_it_listens_where_it_was_told_and_by_default_on_the_loopback_only(board: Board) -> None:
    if "listen" not in board.variables.get("pinch_settings", {}):
        assert board.listen == Settings().listen
    process = board.properties("MainPID")["MainPID"]
    listening = {line.split()[3] for line in board.run("ss -Hltnp").splitlines() if f"pid={process}," in line}
    # asyncio binds all that a name stands for, and `localhost` may stand for two addresses.
    wanted = {board.listen.replace("localhost", each) for each in ("127.0.0.1", "[::1]")}
    assert listening
    assert listening <= wanted
    assert f"pid={process}," not in board.run("ss -Hlunp")


def test_a_board_of_our_image_listens_to_ssh_and_nothing_else_beyond_loopback(board: Board) -> None:
    if board.attempt(f"test -e {OWN_IMAGE}").rc:
        pytest.skip("this card was not made by image/build: what else it serves is its owner's choice")
    addresses = {line.split()[3] for line in board.run("ss -Hltn").splitlines()}
    beyond = {each for each in addresses if not each.startswith(("127.", "[::1]"))} - {board.listen}
    assert {each.rpartition(":")[2] for each in beyond} <= {"22"}, beyond


def test_service_runs_as_its_own_user(board: Board) -> None:
    process = board.properties("MainPID")["MainPID"]
    assert board.run(f"stat -c %U /proc/{process}") == "pinch"
    assert board.run("getent passwd pinch").rpartition(":")[2] in {"/usr/sbin/nologin", "/sbin/nologin", "/bin/false"}
    assert set(board.run(f"awk '/^Cap(Eff|Prm|Bnd)/ {{print $2}}' /proc/{process}/status").split()) == {"0" * 16}


@pytest.mark.parametrize(
    ("path", "owner", "most"),
    [
        (TOKENS, "root:root", 0o600),
        (CONFIG, "root:", 0o644),
        (STATE, "pinch:pinch", 0o750),
        (f"{MODELS}/", "root:", 0o755),
        (f"{RELEASE}/", "root:", 0o755),
        (f"/etc/systemd/system/{UNIT}", "root:root", 0o644),
    ],
)
def test_files_belong_to_whom_they_should(board: Board, path: str, owner: str, most: int) -> None:
    if path.startswith(MODELS) and not board.tier.semantic:
        pytest.skip("this tier carries no model")
    mode, found = board.run(f"stat -L -c '%a %U:%G' {path}").split()
    assert found.startswith(owner)
    assert int(mode, 8) & ~most == 0, f"{path} is {mode}; expected no more than {most:o}"


def test_the_service_cannot_change_its_own_code_or_model(board: Board) -> None:
    writable = board.run(
        f"find -L {RELEASE}/ {MODELS}/ \\( -user pinch -o -perm /022 \\) -not -type l -print -quit 2>/dev/null; true"
    )
    assert writable == ""


def test_release_is_whole_and_reached_by_a_link(board: Board) -> None:
    target = board.run(f"readlink -f {RELEASE}")
    assert target.startswith("/opt/pinch/releases/")
    assert board.run("readlink -f /usr/local/bin/pinch").startswith(target)
    assert board.run("ls -d /opt/pinch/releases/*.partial 2>/dev/null; true") == ""
    process = board.properties("MainPID")["MainPID"]
    # A release on the distribution's packages has no library to map; its program stays open in either.
    held = board.run(f"cat /proc/{process}/maps; ls -l /proc/{process}/fd")
    assert f" {target}/" in held, "the running process is of another release than the link names"
    assert int(board.run(f"find -L {target}/lib -name '*.pyc' | wc -l")) > 100, "bytecode is not precompiled"


def test_installed_size(board: Board, figures: Figures) -> None:
    bound = 160 if board.tier.semantic else 25
    used = int(board.run(f"du -sm {board.run(f'readlink -f {RELEASE}')} | cut -f1"))
    if board.tier.semantic:
        used += int(board.run(f"du -smL {MODELS}/current | cut -f1"))
    used += _brought_mb(board)
    figures.add("installed on disk, packages and model included", used, "MB", f"≤ {bound} MB")
    assert used <= bound


def test_model_is_the_one_its_manifest_names(board: Board) -> None:
    if not board.model:
        assert board.attempt(f"ls {MODELS}/current/manifest.json").rc, "a tier without a model carries one"
        return
    manifest = json.loads(board.run(f"cat {MODELS}/current/manifest.json"))
    printed = board.run(f"cd {MODELS}/current && sha256sum {' '.join(manifest['files'])}").splitlines()
    found = {name: sha for sha, name in (line.split() for line in printed)}
    assert found == {name: entry["sha256"] for name, entry in manifest["files"].items()}
    unsigned = {name: value for name, value in manifest.items() if name != "sha256"}
    canonical = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hashlib.sha256(canonical).hexdigest() == manifest["sha256"]
    assert manifest["name"] == board.model


def test_token_is_nowhere_but_in_its_file(board: Board) -> None:
    process = board.properties("MainPID")["MainPID"]
    # The secret stays on the board and off every command line: sudo writes those to the journal.
    search = f"""umask 077; patterns=/run/pinch-proof-secrets
awk 'NF && !/^#/ {{print $2}}' {TOKENS} > $patterns
systemctl cat {UNIT} | grep -cF -f $patterns
journalctl -u {UNIT} --no-pager | grep -cF -f $patterns
tr '\\0' '\\n' < /proc/{process}/environ | grep -cF -f $patterns
tr '\\0' ' ' < /proc/{process}/cmdline | grep -cF -f $patterns
grep -rlF -f $patterns /etc /opt/pinch /var/lib/pinch /var/log --exclude=tokens 2>/dev/null | wc -l
test -s $patterns && rm $patterns"""
    assert board.run(search).split() == ["0", "0", "0", "0", "0"]


def test_unit_is_sandboxed(board: Board, figures: Figures) -> None:
    last = board.run(f"systemd-analyze security --no-pager {UNIT} | tail -1")
    exposure = float(last.partition(":")[2].split()[0])
    figures.add("systemd-analyze security", exposure, bound=f"< {EXPOSURE}")
    assert exposure < EXPOSURE


def test_no_answer_without_a_token(board: Board) -> None:
    with board.service() as client:
        assert client.call("GET", "/healthz") == {"ok": True}
        with pytest.raises(RefusedError) as refused:
            _with_token(client, "not-the-token").call("GET", "/v1/memories")
    assert refused.value.status == 401


def test_doctor_finds_nothing_wrong(board: Board) -> None:
    done = board.attempt("pinch doctor --json")
    assert done.rc == 0, done.stdout + done.stderr


def _brought_mb(board: Board) -> int:
    """Return the size in MB that dpkg states for the Debian packages that the roles brought."""
    printed = board.attempt(f"cat {BROUGHT}").stdout
    names = json.loads(printed) if printed else []
    if not names:
        return 0
    sizes = board.run(f"dpkg-query --show --showformat='${{Installed-Size}}\\n' {' '.join(names)}")
    return -(-sum(int(size) for size in sizes.split()) // 1024)


def _with_token(client: Client, token: str) -> Client:
    client.token = token
    return client
