"""What the roles ask of a service: is it healthy, give a snapshot, take one; asked of the real one on this machine."""

from __future__ import annotations

import http.server
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.app import WAITING

from tests.lifecycle.backups import contents, launcher
from tests.roles.sources import ROLES, load
from tests.running import LocalService

client = load("pinch/module_utils/pinch_service.py")
snapshots = load("pinch/library/store_snapshot.py")
rehearsal = load("pinch/library/release_rehearsal.py")
boards = load("pinch/module_utils/pinch_board.py")
units = load("pinch/module_utils/pinch_unit.py")
beside = load("pinch/module_utils/pinch_beside.py")
handovers = load("pinch/module_utils/pinch_handover.py")
restored = load("restore/library/restored_store.py")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    """A service in the minimal tier."""
    with LocalService(tmp_path_factory.mktemp("service"), PINCH_TIER="minimal") as service:
        yield service


def asked(service: LocalService, token: str = "") -> Any:
    """Return the roles' client of a service."""
    where = client.Address("127.0.0.1", service.port, False)
    return client.Service(where, token or client.first_token(service.folder / "tokens"))


def test_a_healthy_service_passes_and_keeps_nothing_of_the_proof(service: LocalService) -> None:
    assert (asked(service).not_ready(), asked(service).fault()) == ("", "")
    with service.client() as direct:
        assert direct.memories(client.PROOF_SPACE) == []


def test_a_wrong_token_is_a_fault(service: LocalService) -> None:
    assert asked(service, "not-the-token").fault() == "it answers 401 to a memory"


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers each path with what the test says."""

    said: dict[str, tuple[int, object]] = {}  # noqa: RUF012 (set anew for each server)

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.said.get(f"{self.command} {self.path}", (500, {}))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 (names of http.server)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (name of http.server)
        return


@pytest.mark.parametrize(
    ("said", "not_ready", "fault"),
    [
        ({}, "/readyz answers 500", "it answers 500 to a memory"),
        ({"GET /readyz": (503, {"ready": False, "waiting_for": ["the store"]})},
         "/readyz answers 503, waiting for the store", "it answers 500 to a memory"),
        ({"GET /readyz": (200, {"ready": True}), "POST /v1/memories": (201, {"id": "1"}),
          "POST /v1/recall": (200, {"hits": []}), "DELETE /v1/memories/1": (204, None)},
         "", "it answers 200 to a recall and does not find what it was just told"),
        ({"GET /readyz": (200, {"ready": False})}, "/readyz answers 200", "it answers 500 to a memory"),
        ({"GET /readyz": (200, ["ready"])}, "/readyz answers 200", "it answers 500 to a memory"),
    ],
)  # fmt: skip
def test_a_service_that_answers_and_does_not_work_is_told_from_a_healthy_one(
    said: dict[str, tuple[int, object]], not_ready: str, fault: str
) -> None:
    handler = type("Said", (Answers,), {"said": said})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found = client.Service(client.Address("127.0.0.1", server.server_port, False), "token", 5)
        assert (found.not_ready(), found.fault()) == (not_ready, fault)
        server.shutdown()
        thread.join()
    assert "does not answer" in found.not_ready()


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ("", ("127.0.0.1", 18789, False)),
        ('listen = "0.0.0.0:8443"\n[gateway]\ntls_certificate = "/etc/ssl/board.pem"\n', ("127.0.0.1", 8443, True)),
        ('listen = "[::]:80"', ("::1", 80, False)),
        ('listen = "[::1]:18789"', ("::1", 18789, False)),
        ('listen = "192.168.1.7:18789"', ("192.168.1.7", 18789, False)),
    ],
)
def test_the_service_is_asked_where_its_settings_let_it_listen(settings: str, where: tuple[str, int, bool]) -> None:
    assert client.address(settings) == where


def test_the_first_token_of_a_file_is_used_and_comments_are_not(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# name token\n\ndefault abc until=2030-01-01T00:00:00Z\nother def\n", "utf-8")
    assert client.first_token(tmp_path / "tokens") == "abc"
    assert client.first_token(tmp_path / "none") == ""


def test_a_snapshot_is_saved_counted_loaded_and_every_memory_recalled(service: LocalService, tmp_path: Path) -> None:
    texts = [f"The {word} is blue, and so is everything near the {word}." for word in ("door", "kettle", "sail")]
    with service.client() as direct:
        for space in ("default", "other"):
            for text in [*texts, "…", "日本の海", "word " * 3000]:
                direct.remember(text, space=space)
    file = tmp_path / "store.snapshot"
    command = launcher(service)
    assert snapshots.save(command, file) == file.stat().st_size
    counts, schema = contents.contents(file)
    assert (counts["memories"], counts["documents"], counts["sessions"], schema) == (12, 0, 0, 1)
    sha256 = contents.member("snapshot", file)["sha256"]
    folder = tmp_path / "new"
    folder.mkdir()
    with LocalService(folder, PINCH_TIER="minimal") as fresh:
        with pytest.raises(restored.RestoreError, match=r"expected 000000000000.*Run again; nothing was changed"):
            restored.load(launcher(fresh), file, "0" * 64)
        loaded = restored.load(launcher(fresh), file, sha256)
        restored.compare(loaded, counts)
        assert restored.recall(asked(fresh), 12, 0) == 12
        assert restored.recall(asked(fresh), 12, 5) == 5
        with pytest.raises(restored.RestoreError, match="too few are listed"):
            restored.recall(asked(fresh), 13, 0)
        broken = tmp_path / "broken"
        broken.write_bytes(file.read_bytes()[:-5000])
        with pytest.raises(restored.RestoreError, match=r"did not load the snapshot.*Its store is as it was"):
            restored.load(launcher(fresh), broken, contents.member("x", broken)["sha256"])
        assert restored.recall(asked(fresh), 12, 0) == 12


def test_vectors_of_a_full_board_wait_on_a_minimal_one_and_every_memory_is_recalled(tmp_path: Path) -> None:
    for name in ("full", "minimal"):
        (tmp_path / name).mkdir()
    file = tmp_path / "store.snapshot"
    with LocalService(tmp_path / "full", PINCH_TIER="minimal") as full:
        with full.client() as direct:
            for number in range(5):
                direct.remember(f"Shelf {number} holds the atlas of the moon.")
        snapshots.save(launcher(full), file)
    with closing(sqlite3.connect(file)) as connection:  # what a model would have left
        connection.execute("INSERT INTO models VALUES (1, 'all-MiniLM-L6-v2', 'abc', 384, 1)")
        connection.execute("INSERT INTO embeddings SELECT 1, digest, zeroblob(384) FROM items")
        connection.commit()
    counts, _ = contents.contents(file)
    assert (counts["memories"], counts["vectors"]) == (5, 5)
    with LocalService(tmp_path / "minimal", PINCH_TIER="minimal") as minimal:
        loaded = restored.load(launcher(minimal), file, contents.member("snapshot", file)["sha256"])
        restored.compare(loaded, counts)
        assert restored.recall(asked(minimal), 5, 0) == 5
        again = tmp_path / "again.snapshot"
        snapshots.save(launcher(minimal), again)
    assert contents.contents(again)[0]["vectors"] == 5, "the way back to a bigger board would embed all anew"


def test_a_service_that_gives_no_snapshot_is_quoted(tmp_path: Path) -> None:
    gone = LocalService(tmp_path, PINCH_TIER="minimal")
    with pytest.raises(snapshots.SnapshotError, match=r"the service gave no snapshot: .*Nothing was changed"):
        snapshots.save(launcher(gone), tmp_path / "store.snapshot")
    assert not (tmp_path / "store.snapshot").exists()


def test_a_disk_too_full_for_a_snapshot_is_told_before_anything_is_written(tmp_path: Path) -> None:
    snapshots.require_room(tmp_path, 0, 3)
    with pytest.raises(snapshots.SnapshotError, match=r"MB free; expected 3145744 MB .* a store of 1048576 MB"):
        snapshots.require_room(tmp_path, 2**40, 3)


def test_the_size_of_a_store_counts_its_log_and_sessions_and_no_wreck(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    for name, size in {
        "pinch.db": 10,
        "pinch.db-wal": 5,
        "sessions/main.jsonl": 3,
        "pinch.db.corrupt-20260101": 99,
    }.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert snapshots.held_bytes(tmp_path) == 18


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(0, 5))
def test_no_more_snapshots_stay_than_asked_for_and_the_newest_do(number: int, keep: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"2026010{day}T000000Z-1.0.0.snapshot" for day in range(1, number + 1)]
        for file in [*files, folder / "x.partial"]:
            file.touch()
        going = set(snapshots.surplus(folder, keep))
        assert folder / "x.partial" in going
        assert set(files) - going == set(files[-max(keep, 1) :])


def test_a_rehearsal_has_its_own_state_port_and_end() -> None:
    lines = rehearsal.drop_in(Path("/opt/pinch/releases/b/bin/pinch"), Path("/run/x/pinch.toml"), 4711).splitlines()
    assert lines.index("ExecStart=") + 1 == lines.index("ExecStart=/opt/pinch/releases/b/bin/pinch serve")
    assert {"Restart=no", "RuntimeMaxSec=600", "StateDirectory=pinch-rehearsal pinch-rehearsal/tmp"} <= set(lines)
    assert any("PINCH_LISTEN=127.0.0.1:4711" in line and "PINCH_STATE_DIR=%S/pinch-rehearsal" in line for line in lines)


def test_a_successor_has_the_services_own_store_and_everything_else_from_beside_it(tmp_path: Path) -> None:
    board = boards.Board(tmp_path / "home", tmp_path / "pinch", tmp_path / "models", "pinch.service")
    (tmp_path / "models" / "all-MiniLM").mkdir(parents=True)
    files = {
        "/etc/pinch/pinch.toml": 'tier = "light"\n',
        "/etc/pinch/deployment.env": "DEPLOYMENT=abc\n",
        "/etc/systemd/system/pinch.service": "[Service]\nStateDirectory=pinch\n",
    }
    wanted = boards.Generation("b", files, "all-MiniLM")
    texts = board.successor_texts(wanted)
    beside = "/run/systemd/system/pinch-successor.service.d"
    assert texts["pinch-successor.service"] == files["/etc/systemd/system/pinch.service"]
    assert (texts["pinch.toml"], texts["deployment.env"]) == (*files.values(),)[:2]
    lines = texts["50-successor.conf"].splitlines()
    assert {f"ExecStart={tmp_path}/home/releases/b/bin/pinch serve", "Restart=no", "RuntimeMaxSec=600"} <= set(lines)
    assert f"Environment=PINCH_CONFIG={beside}/pinch.toml" in lines
    assert lines.index("EnvironmentFile=") < lines.index(f"EnvironmentFile={beside}/deployment.env")
    assert f"Environment=PINCH_MODEL_DIR={tmp_path}/models/all-MiniLM" in lines
    assert not any("STATE_DIR" in line or "StateDirectory" in line for line in lines)
    service = {"/etc/systemd/system/pinch.service": "[Service]\nEnvironment=PINCH_MODEL_DIR=/srv/model\n"}
    own = wanted._replace(files=files | service)
    assert "MODEL_DIR" not in board.successor_texts(own)["50-successor.conf"], "the unit names one"


def test_the_roles_and_the_service_mean_the_same_by_waiting() -> None:
    unit = (ROLES / "pinch/templates/pinch.service.j2").read_text("utf-8")
    (wait_s,) = re.findall(r"^Environment=PINCH_STATE_WAIT_S=(\d+)$", unit, re.MULTILINE)
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert WAITING == units.WAITING
    assert int(wait_s) > beside.LONGEST_S, "a successor that was left behind ends first"
    assert int(stop_s) < handovers.END_S
