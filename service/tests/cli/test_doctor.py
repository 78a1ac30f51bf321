import hashlib
import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve
from pinch.app import MODELS_DIR
from pinch.cli.doctor import cgroup, clock, disk, extension, model, pressure, swap, tokens
from pinch.cli.doctor.host import Finding, Host, Status, Volume
from pinch.settings import load_settings
from pinch.tiers import Machine, load_tiers

from service.tests.cli.command import Pinch

MEBIBYTE = 1024 * 1024
NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
UNIT = "sys/fs/cgroup/system.slice/pinch.service"
ZRAM = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1048576 0 100\n"
FULL = load_tiers().named("full")
MINIMAL = load_tiers().named("minimal")

# One row a healthy board's file; a test replaces or removes what it is about.
HEALTHY = {
    "etc/systemd/system/pinch.service": "[Service]\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    f"{UNIT}/memory.high": f"{FULL.memory_high_mb * MEBIBYTE}\n",
    f"{UNIT}/memory.max": f"{FULL.memory_max_mb * MEBIBYTE}\n",
    f"{UNIT}/memory.events": "low 0\nhigh 3\nmax 0\noom 0\noom_kill 0\n",
    "proc/pressure/memory": (
        "some avg10=0.00 avg60=0.10 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.05 avg300=0.00 total=1\n"
    ),
    "proc/meminfo": "MemTotal:        3878912 kB\n",
    "proc/swaps": ZRAM,
    "sys/block/zram0/mm_stat": "0 0 0 536870912 0 0 0 0 0\n",
    "etc/rpi/swap.conf": "[Main]\nMechanism=zram\n",
    "etc/pinch/tokens": f"mine {'s' * 30}\n",
    "run/systemd/timesync/synchronized": "",
    "var/lib/pinch/pinch.db": "",
}


@pytest.fixture
def board(tmp_path: Path) -> Host:
    """A healthy 4 GB board without a model."""
    root = tmp_path / "board"
    for name, text in HEALTHY.items():
        put(root, name, text)
    (root / "etc/pinch/tokens").chmod(0o600)
    os.utime(root / "var/lib/pinch/pinch.db", (NOW.timestamp(), NOW.timestamp()))
    return Host(
        root=root,
        settings=load_settings({"PINCH_CONFIG": os.devnull}),
        tier=FULL,
        machine=Machine(3878912 * 1024, "aarch64"),
        now=NOW,
        volume=lambda _: Volume(10_000 * MEBIBYTE, 30_000 * MEBIBYTE, read_only=False),
        clock_synchronised=lambda: False,
    )


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def only(findings: list[Finding]) -> tuple[str, Status, str]:
    (finding,) = findings
    assert bool(finding.advice) == (finding.status is not Status.OK), "advice is for what is not well"
    return finding.name, finding.status, f"{finding.found} → {finding.advice}"


@pytest.mark.parametrize("check", [cgroup.check, pressure.check, swap.check, tokens.check, clock.check, disk.check])
def test_a_healthy_board_is_well(board: Host, check: Callable[[Host], list[Finding]]) -> None:
    findings = check(board)
    assert findings
    assert all(finding.status is Status.OK and not finding.advice for finding in findings), findings


# --- cgroup


def test_a_kernel_without_the_memory_controller_fails_where_a_unit_counts_on_it(board: Host) -> None:
    put(board.root, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    name, status, text = only(cgroup.check(board))
    assert (name, status) == ("cgroup", Status.FAIL)
    assert "cgroup_enable=memory" in text
    (board.root / "etc/systemd/system/pinch.service").unlink()
    assert only(cgroup.check(board))[1] is Status.WARN


@pytest.mark.parametrize("limit", ["high", "max"])
def test_a_unit_without_a_limit_fails(board: Host, limit: str) -> None:
    put(board.root, f"{UNIT}/memory.{limit}", "max\n")
    assert cgroup.check(board)[1].status is Status.FAIL
    assert f"Memory{limit.capitalize()}" in cgroup.check(board)[1].found


def test_a_limit_other_than_the_tiers_is_named(board: Host) -> None:
    put(board.root, f"{UNIT}/memory.max", str(500 * MEBIBYTE))
    finding = cgroup.check(board)[1]
    assert (finding.status, "500 MB" in finding.found, "120 MB" in finding.found) == (Status.WARN, True, True)


def test_a_stopped_unit_is_told_from_one_that_is_not_installed(board: Host) -> None:
    (board.root / UNIT / "memory.max").unlink()
    assert "is not running" in cgroup.check(board)[1].found
    (board.root / "etc/systemd/system/pinch.service").unlink()
    assert "is not installed" in cgroup.check(board)[1].found


def test_kills_are_counted(board: Host) -> None:
    put(board.root, f"{UNIT}/memory.events", "oom_kill 2\n")
    assert "2 times" in cgroup.check(board)[-1].found


# --- PSI


def test_a_kernel_with_psi_off_is_told_by_its_refusal(board: Host) -> None:
    path = board.root / "proc/pressure/memory"
    path.unlink()
    assert "psi=1" in only(pressure.check(board))[2]
    # Where it is compiled in but off, the file is there and reading it fails.
    path.mkdir()
    assert "psi=1" in only(pressure.check(board))[2]


def test_standing_still_for_memory_is_a_warning(board: Host) -> None:
    put(
        board.root,
        "proc/pressure/memory",
        "some avg10=9 avg60=9 avg300=9 total=1\nfull avg10=7 avg60=4.20 avg300=1 total=1\n",
    )
    assert "4.20 %" in only(pressure.check(board))[2]


# --- swap


def test_two_mechanisms_at_once_fail(board: Host) -> None:
    put(board.root, "usr/sbin/dphys-swapfile", "")
    _, status, text = only(swap.check(board))
    assert (status, "rpi-swap and dphys-swapfile" in text) == (Status.FAIL, True)


def test_a_tool_that_the_role_switched_off_is_no_mechanism(board: Host) -> None:
    put(board.root, "usr/sbin/dphys-swapfile", "")
    put(board.root, "etc/systemd/zram-generator.conf", "[zram0]\n")
    put(board.root, "etc/rpi/swap.conf.d/90-pinch.conf", "[Main]\nMechanism=none\n")
    assert only(swap.check(board))[1] is Status.FAIL
    mask = board.root / "etc/systemd/system/dphys-swapfile.service"
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.symlink_to("/dev/null")
    assert only(swap.check(board))[1] is Status.OK


def test_zram_generator_under_rpi_swap_is_no_second_mechanism(board: Host) -> None:
    put(board.root, "etc/systemd/zram-generator.conf", "")
    assert only(swap.check(board))[1] is Status.OK


def test_two_kinds_active_at_once_are_named(board: Host) -> None:
    put(board.root, "proc/swaps", ZRAM + "/var/swap file 524288 0 -2\n")
    _, status, text = only(swap.check(board))
    assert (status, "/dev/zram0" in text, "/var/swap (512.0 MB)" in text) == (Status.WARN, True, True)


def test_no_swap_matters_on_small_boards(board: Host) -> None:
    put(board.root, "proc/swaps", ZRAM.splitlines()[0] + "\n")
    assert only(swap.check(board))[1] is Status.OK
    assert only(swap.check(evolve(board, tier=MINIMAL)))[1] is Status.WARN


def test_zram_larger_than_the_ram_or_without_a_limit_is_a_warning(board: Host) -> None:
    put(board.root, "sys/block/zram0/mm_stat", "0 0 0 0 0 0 0 0 0\n")
    assert "mem_limit" in only(swap.check(board))[2]
    assert "as large as the RAM" in only(swap.check(evolve(board, machine=Machine(512 * MEBIBYTE, "aarch64"))))[2]


# --- tokens


@pytest.mark.parametrize(
    ("text", "mode", "status", "complaint"),
    [
        (None, 0, Status.FAIL, "does not exist"),
        ("", 0o600, Status.FAIL, "no token"),
        (f"mine {'s' * 30}\n", 0o644, Status.FAIL, "chmod 600"),
        ("one two three four\n", 0o600, Status.FAIL, "line 1"),
        (f"mine {'s' * 30} until=2026-04-01T00:00:00Z\n", 0o600, Status.FAIL, "has ended"),
        (f"mine {'s' * 30} until=2026-05-02T00:00:00Z\n", 0o600, Status.WARN, "pinch token rotate mine"),
    ],
)
def test_tokens_that_do_not_open_the_door(
    board: Host, text: str | None, mode: int, status: Status, complaint: str
) -> None:
    path = board.root / "etc/pinch/tokens"
    path.unlink()
    if text is not None:
        put(board.root, "etc/pinch/tokens", text).chmod(mode)
    name, found, sentence = only(tokens.check(board))
    assert (name, found) == ("tokens", status)
    assert complaint in sentence
    assert "s" * 30 not in sentence


# --- clock


@pytest.mark.parametrize("year", [1970, 2024, 2100, 2242])
def test_a_year_that_cannot_be_fails(board: Host, year: int) -> None:
    _, status, text = only(clock.check(evolve(board, now=NOW.replace(year=year))))
    assert (status, str(year) in text) == (Status.FAIL, True)


def test_a_clock_that_went_back_behind_the_store_is_a_warning(board: Host) -> None:
    assert "went back" in only(clock.check(evolve(board, now=NOW - timedelta(days=30))))[2]


def test_a_clock_without_ntp_is_a_warning(board: Host) -> None:
    (board.root / "run/systemd/timesync/synchronized").unlink()
    assert "NTP" in only(clock.check(board))[2]
    assert only(clock.check(evolve(board, clock_synchronised=lambda: True)))[1] is Status.OK
    assert only(clock.check(evolve(board, clock_synchronised=lambda: None)))[1] is Status.WARN


# --- disk


@pytest.mark.parametrize(
    ("free_mb", "read_only", "status"),
    [(10_000, True, Status.FAIL), (50, False, Status.FAIL), (300, False, Status.WARN), (600, False, Status.OK)],
)
def test_a_disk_that_is_full_or_read_only(board: Host, free_mb: int, read_only: bool, status: Status) -> None:
    volume = Volume(free_mb * MEBIBYTE, 30_000 * MEBIBYTE, read_only)
    assert only(disk.check(evolve(board, volume=lambda _: volume)))[1] is status


def test_a_state_folder_that_is_not_there_yet_is_said(board: Host) -> None:
    (board.root / "var/lib/pinch/pinch.db").unlink()
    (board.root / "var/lib/pinch").rmdir()
    assert "does not exist yet" in only(disk.check(board))[2]


# --- model


@pytest.fixture
def modelled(board: Host) -> Host:
    """The board with a model's files, whose contents no runtime would take."""
    files = {"model.onnx": b"graph", "weights.bin": b"weights", "tokenizer.json": b"{}"}
    manifest: dict[str, object] = {
        "name": "sample",
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
    }
    manifest["sha256"] = model.content_hash(manifest)
    folder = board.root / "var/lib/pinch-models/current"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return evolve(board, python=(script(board.root, "exit 0"),))


def script(root: Path, body: str) -> str:
    path = root / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_standard_folder_is_the_services() -> None:
    assert str(MODELS_DIR) == model.STANDARD_FOLDER


def test_a_whole_model_is_well(modelled: Host) -> None:
    assert [(finding.name, finding.status) for finding in model.check(modelled)] == [
        ("model", Status.OK),
        ("inference", Status.OK),
    ]


def test_the_minimal_tier_needs_no_model(board: Host) -> None:
    assert only(model.check(evolve(board, tier=MINIMAL)))[1] is Status.OK


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("weights.bin", b"WEIGHTS", "another sha256"),
        ("weights.bin", b"weight", "has 6 bytes; the manifest says 7"),
        ("model.onnx", None, "lacks model.onnx"),
        ("manifest.json", None, "no manifest.json"),
        ("manifest.json", b"", "is no manifest"),
        ("manifest.json", b"[]", "is no manifest"),
        ("manifest.json", b'{"sha256": "0"}', "it was changed"),
    ],
)
def test_a_model_that_is_not_whole_is_named(modelled: Host, name: str, content: bytes | None, complaint: str) -> None:
    path = modelled.root / "var/lib/pinch-models/current" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    check, status, text = only(model.check(modelled))
    assert (check, status) == ("model", Status.FAIL)
    assert complaint in text
    assert "models role" in text


@pytest.mark.parametrize(
    ("body", "complaint"), [("kill -ILL $$", "SIGILL"), ("echo no such graph; exit 1", "no such graph")]
)
def test_a_runtime_that_dies_is_named(modelled: Host, body: str, complaint: str) -> None:
    finding = model.check(evolve(modelled, python=(script(modelled.root, body),)))[1]
    assert (finding.status, complaint in finding.found) == (Status.FAIL, True)


def test_the_real_model_embeds_a_sentence(board: Host, int8: Path) -> None:
    settings = load_settings({"PINCH_MODEL_DIR": str(int8)})
    findings = model.check(evolve(board, root=Path("/"), settings=settings))
    assert [finding.status for finding in findings] == [Status.OK, Status.OK], findings


# --- SQLite


def test_the_extension_loads_here(board: Host) -> None:
    pytest.importorskip("sqlite_vec", reason="a distribution's packages have none")
    assert "sqlite-vec v" in only(extension.check(board))[2]
    assert "sqlite-vec" not in only(extension.check(evolve(board, tier=MINIMAL)))[2]


@pytest.mark.parametrize(
    ("body", "complaint"), [("kill -SEGV $$", "SIGSEGV"), ("echo wrong ELF class >&2; exit 1", "wrong ELF class")]
)
def test_an_extension_that_does_not_load_fails(board: Host, body: str, complaint: str) -> None:
    _, status, text = only(extension.check(evolve(board, python=(script(board.root, body),))))
    assert (status, complaint in text) == (Status.FAIL, True)


def test_a_python_that_is_not_there_fails(board: Host) -> None:
    assert "cannot be run" in only(extension.check(evolve(board, python=("/no/python",))))[2]


# --- the command


def run(pinch: Pinch, board: Host, **environ: str) -> tuple[int, dict[str, tuple[str, str]]]:
    done = pinch(
        "doctor", "--root", str(board.root), "--json", environ={"PINCH_TOKENS_FILE": "/etc/pinch/tokens", **environ}
    )
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    return done.returncode, {found["name"]: (found["status"], found["found"]) for found in report["checks"]}


def test_every_subject_is_checked_and_one_failure_fails_the_command(pinch: Pinch, board: Host) -> None:
    token = {"PINCH_TOKEN": pinch.ok("token", "show").strip()}
    for limit, megabytes in (("high", MINIMAL.memory_high_mb), ("max", MINIMAL.memory_max_mb)):
        put(board.root, f"{UNIT}/memory.{limit}", str(megabytes * MEBIBYTE))
    status, found = run(pinch, board, **token)
    subjects = {
        "settings",
        "tier",
        "model",
        "sqlite",
        "cgroup",
        "limits",
        "psi",
        "swap",
        "tokens",
        "clock",
        "disk",
        "service",
    }
    assert set(found) == subjects
    assert status == 0, found
    (board.root / "etc/pinch/tokens").chmod(0o644)
    status, found = run(pinch, board, **token)
    assert (status, found["tokens"][0]) == (1, "fail")


def test_a_service_that_is_not_there_and_a_wrong_token_fail(pinch: Pinch, board: Host) -> None:
    status, found = run(pinch, board, PINCH_URL="http://127.0.0.1:1", PINCH_TOKEN="t" * 20)
    assert (status, found["service"][0]) == (1, "fail")
    status, found = run(pinch, board, PINCH_TOKEN="t" * 20)
    assert (status, found["service"][0]) == (1, "fail")
    assert "token" in found["service"][1]


def test_a_mistake_in_the_settings_does_not_stop_the_other_checks(pinch: Pinch, board: Host) -> None:
    config = put(board.root, "etc/pinch/pinch.toml", 'listne = "x"\n')
    status, found = run(pinch, board, PINCH_CONFIG=str(config))
    assert (status, found["settings"][0], found["disk"][0]) == (1, "fail", "ok")
    assert "did you mean listen" in found["settings"][1]


def test_a_tier_that_does_not_fit_fails(pinch: Pinch, board: Host) -> None:
    put(board.root, "proc/meminfo", "MemTotal:        102400 kB\n")
    assert run(pinch, board)[1]["tier"][0] == "fail"


def test_a_person_reads_what_to_do(pinch: Pinch, board: Host) -> None:
    (board.root / "proc/pressure/memory").unlink()
    done = pinch("doctor", "--root", str(board.root), environ={"COLUMNS": "60"})
    shown = done.stdout.decode()
    assert "warn  psi       the kernel gives no memory pressure\n" in shown
    assert "                → add psi=1 to the kernel's command" in shown
    assert max(map(len, shown.splitlines())) <= 60 or "/tmp" in shown
