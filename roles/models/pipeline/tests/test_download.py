"""What a user sees of a fetch: it goes on where it broke off, and says why it gave up."""

import socket
from pathlib import Path

import pytest
from model_server import Server, body, status, torn
from pinch_models.download import Patience, download
from pinch_models.errors import FetchError

CONTENT = bytes(range(256)) * 4096
LENGTH = len(CONTENT)


def _fetch(server: Server, target: Path, patience: Patience, length: int | None = LENGTH) -> None:
    download(f"{server.url}/file", target, length or LENGTH, length, patience)


def test_a_file_arrives(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.files["file"] = CONTENT
    _fetch(server, tmp_path / "file", patience)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_torn_answer_is_resumed_from_its_last_byte(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.files["file"] = CONTENT
    server.replies["file"] = [torn]
    _fetch(server, tmp_path / "file", patience)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [("file", None), ("file", f"bytes={LENGTH // 2}-")]


def test_a_later_run_goes_on_with_what_an_earlier_one_left(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.files["file"] = CONTENT
    (tmp_path / "file").write_bytes(CONTENT[:1000])
    _fetch(server, tmp_path / "file", patience)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [("file", "bytes=1000-")]


def test_a_server_that_cannot_resume_sends_all_again(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.replies["file"] = [body(CONTENT)]
    (tmp_path / "file").write_bytes(CONTENT[:1000])
    _fetch(server, tmp_path / "file", patience)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_an_unsatisfiable_range_starts_over(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.files["file"] = CONTENT
    server.replies["file"] = [status(416)]
    (tmp_path / "file").write_bytes(CONTENT[:1000])
    _fetch(server, tmp_path / "file", patience)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_with_growing_pauses(server: Server, tmp_path: Path) -> None:
    server.files["file"] = CONTENT
    server.replies["file"] = [status(503), status(429), status(500)]
    pauses: list[float] = []
    _fetch(server, tmp_path / "file", Patience(timeout_s=5, sleep=pauses.append))
    assert pauses == [0.5, 1.0, 2.0]


def test_a_missing_file_is_not_asked_for_twice(server: Server, tmp_path: Path, patience: Patience) -> None:
    with pytest.raises(FetchError, match="HTTP 404 Not Found"):
        _fetch(server, tmp_path / "file", patience)
    assert len(server.ranges) == 1


def test_an_answer_that_always_breaks_off_is_given_up(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.files["file"] = CONTENT[:1000]
    with pytest.raises(FetchError, match=r"ended after 1,000 of 1,048,576 bytes, 3 attempts"):
        _fetch(server, tmp_path / "file", patience)


def test_a_longer_answer_is_cut_off(server: Server, tmp_path: Path, patience: Patience) -> None:
    server.files["file"] = CONTENT
    with pytest.raises(FetchError, match="longer than the 1,000 bytes"):
        _fetch(server, tmp_path / "file", patience, length=1000)
    assert (tmp_path / "file").stat().st_size <= 1000


def test_no_listener_is_said(tmp_path: Path, patience: Patience) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
    with pytest.raises(FetchError, match=r"no connection \(Connection refused\), 3 attempts"):
        download(url, tmp_path / "file", 10, 10, patience)


def test_a_silent_server_times_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(FetchError, match=r"no answer \(timed out\), 2 attempts"):
            download(url, tmp_path / "file", 10, 10, Patience(attempts=2, timeout_s=0.2, sleep=lambda _: None))


def test_a_file_of_unknown_length_must_match_what_the_server_announces(
    server: Server, tmp_path: Path, patience: Patience
) -> None:
    server.files["file"] = CONTENT
    server.replies["file"] = [torn]
    _fetch(server, tmp_path / "file", patience, length=None)
    assert (tmp_path / "file").read_bytes() == CONTENT
