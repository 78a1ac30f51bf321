import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pinch.cli.errors import FROM_HTTP, MEANING, Exit

from service.tests.cli.command import Pinch

Scripted = Callable[[Callable[[BaseHTTPRequestHandler], None]], Pinch]


def answer(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def test_every_exit_status_has_a_meaning() -> None:
    assert set(MEANING) == set(Exit)
    assert set(FROM_HTTP.values()) <= set(Exit)


def test_a_service_that_is_not_there_is_named_with_what_to_do(pinch: Pinch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sentence = pinch.fails(3, "budget", PINCH_URL=url)
    assert url in sentence
    assert "connection refused" in sentence
    assert "pinch serve" in sentence


def test_a_name_that_does_not_resolve_is_unreachable(pinch: Pinch) -> None:
    assert "no-such-host.invalid" in pinch.fails(
        3, "budget", PINCH_URL="http://no-such-host.invalid:1", PINCH_TOKEN="t" * 20
    )


@pytest.mark.parametrize(
    "url", ["127.0.0.1:18789", "ftp://x", "http://", "http://h:99999", "http://h:x", "http://h/path", "http://u:p@h"]
)
def test_a_wrong_url_is_refused(pinch: Pinch, url: str) -> None:
    assert "expected an address such as http://127.0.0.1:18789" in pinch.fails(2, "budget", PINCH_URL=url)


def test_a_wrong_token_is_refused(pinch: Pinch) -> None:
    assert "token" in pinch.fails(4, "budget", PINCH_TOKEN="x" * 30)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "ünï"])
def test_a_token_that_would_break_the_header_is_refused(pinch: Pinch, token: str) -> None:
    assert "PINCH_TOKEN" in pinch.fails(4, "budget", PINCH_TOKEN=token)


def test_this_machines_token_is_not_sent_to_another_host(pinch: Pinch) -> None:
    assert "set PINCH_TOKEN" in pinch.fails(4, "budget", PINCH_URL="http://192.0.2.1:18789")


def test_no_tokens_file_is_explained(pinch: Pinch, tmp_path: Path) -> None:
    sentence = pinch.fails(4, "budget", PINCH_TOKENS_FILE=str(tmp_path / "absent"))
    assert "does not exist" in sentence
    assert "PINCH_TOKEN" in sentence


def test_a_world_readable_tokens_file_is_refused(pinch: Pinch, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"mine {'s' * 30}\n")
    path.chmod(0o644)
    assert f"chmod 600 {path}" in pinch.fails(4, "budget", PINCH_TOKENS_FILE=str(path))


def test_an_unknown_setting_is_named_with_the_nearest(pinch: Pinch) -> None:
    assert "did you mean PINCH_LISTEN" in pinch.fails(2, "budget", PINCH_LISTEM="x")
    assert "did you mean PINCH_LISTEN" in pinch.fails(78, "serve", PINCH_LISTEM="x")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["forget"],
        ["recall"],
        ["remember"],
        ["remember", "a", "--jsonl", "b"],
        ["recall", "q", "--k", "x"],
        ["tier", "--mem-total", "0"],
    ],
)
def test_wrong_usage_is_one_sentence(pinch: Pinch, arguments: list[str]) -> None:
    assert pinch.fails(2, *arguments)


def test_with_json_stdout_has_the_error_too(pinch: Pinch) -> None:
    for arguments, status, kind in ((["recall"], 2, "usage"), (["recall", "q", "--k", "0"], 2, "invalid_request")):
        done = pinch(*arguments, "--json")
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["exit_status"], error["type"]) == (status, status, kind)
        assert error["message"] in done.stderr.decode()
    assert error["param"] == "k"


def test_json_may_stand_before_the_command(pinch: Pinch) -> None:
    assert json.loads(pinch.ok("--json", "budget"))["tier"] == "minimal"


def test_a_busy_service_is_asked_again_after_the_time_it_names(scripted: Scripted) -> None:
    asked = []

    def respond(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if len(asked) < 3:
            answer(handler, 503, {"error": {"type": "busy", "message": "queue full"}}, Retry_After="0")
        else:
            answer(handler, 200, {"hits": [], "mode": "keyword", "degraded": False})

    done = scripted(respond)("recall", "q", "--json", timeout_s=30)
    assert done.returncode == 0
    assert len(asked) == 3
    assert b"queue full" in done.stderr


def test_a_service_busy_for_long_is_not_waited_for(scripted: Scripted) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        answer(handler, 503, {"error": {"type": "busy", "message": "queue full", "hint": "later"}}, Retry_After="3600")

    assert scripted(respond).fails(6, "recall", "q") == "queue full; later"


def test_an_unavailability_without_a_time_is_not_waited_for(scripted: Scripted) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        answer(handler, 503, {"error": {"type": "store_damaged", "message": "damaged"}})

    assert scripted(respond).fails(6, "recall", "q") == "damaged"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "text"}', b'{"error": null}', b"[]", b"\xff" * 100_000])
def test_an_error_of_another_server_is_reported_by_its_status(scripted: Scripted, body: bytes) -> None:
    assert "502 Bad Gateway" in scripted(lambda handler: answer(handler, 502, body)).fails(1, "recall", "q")


def test_an_answer_that_is_not_json_is_reported(scripted: Scripted) -> None:
    assert "not JSON" in scripted(lambda handler: answer(handler, 200, b"<html>")).fails(1, "recall", "q")


def test_what_speaks_no_http_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "pinch", "recall", "q"]
        environ = {**os.environ, "PINCH_URL": url, "PINCH_TOKEN": "t" * 20}
        with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as process:
            connection, _ = server.accept()
            with connection:
                request = b""
                while not request.endswith(b"}"):
                    request += connection.recv(65_536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            _, sentence = process.communicate(timeout=20)
    assert process.returncode == 3
    assert b"does not speak HTTP" in sentence


def test_an_answer_that_breaks_off_is_reported(scripted: Scripted) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    assert "broke off" in scripted(respond).fails(3, "recall", "q")


def test_the_reader_of_the_output_may_go_away(pinch: Pinch) -> None:
    command = f"'{sys.executable}' -m pinch budget --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env={**pinch.whole_environ}, capture_output=True, timeout=30)
    assert done.stderr == b""
    assert done.returncode in {0, 141}


def test_only_what_a_command_needs_is_imported(pinch: Pinch) -> None:
    program = (
        "import sys; from pinch.cli import main; status = main(sys.argv[1:]); "
        "heavy = {'aiohttp', 'apsw', 'numpy', 'onnxruntime', 'tqdm', 'asyncio'} & set(sys.modules); "
        "print(heavy or '', file=sys.stderr, end=''); sys.exit(status)"
    )
    for arguments in (["budget"], ["recall", "q"], ["tier"], ["token", "list"]):
        command = [sys.executable, "-c", program, *arguments, "--json"]
        done = subprocess.run(command, env={**pinch.whole_environ}, capture_output=True, timeout=30)
        assert done.returncode == 0
        assert done.stderr.replace(b"pinch: nothing found\n", b"") == b""
