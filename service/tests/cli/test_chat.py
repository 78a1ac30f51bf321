import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from pinch.cli.address import Address
from pinch.cli.gateway import ask

from service.tests.cli.command import Pinch, pinch_of
from service.tests.cli.terminal import CTRL_C, CTRL_D, UP, Relay, Terminal
from service.tests.cli.test_tls import certificate
from service.tests.serving import Service, until
from tests.provider import MODEL, Hold, Provider, Status, Text, ToolCall


@define
class Talk:
    """A session of a test's own: the command, the provider that answers it, and the service between."""

    pinch: Pinch
    provider: Provider
    service: Service
    session: str

    def open(self, *arguments: str, **environ: str) -> Terminal:
        """Start `pinch chat` on a terminal and see its prompt."""
        terminal = Terminal(
            self.pinch.bare("chat", "--session", self.session, *arguments), {**self.pinch.whole_environ, **environ}
        )
        terminal.see("Ctrl-D leaves")
        terminal.see(f"{self.session}> ")
        return terminal

    def ok(self, *arguments: str, stdin: bytes = b"") -> str:
        return self.pinch.ok("chat", "--session", self.session, *arguments, stdin=stdin)

    def begin(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        """Start a one-shot and go on."""
        return subprocess.Popen(
            self.pinch.bare("chat", "--session", self.session, *arguments),
            env={**self.pinch.whole_environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def history(self) -> list[tuple[str, str]]:
        """Return who said what, as the service has it."""
        where = Address("http", "127.0.0.1", self.service.port)
        messages = ask(where, self.service.token, "chat.history", {"sessionKey": self.session, "limit": 100})
        return [(one["role"], "".join(part.get("text", "") for part in one["content"])) for one in messages["messages"]]

    def through(self, relay: Relay) -> dict[str, str]:
        """Return the environment in which the service is behind `relay`."""
        return {"PINCH_URL": f"http://127.0.0.1:{relay.port}", "PINCH_TOKEN": self.service.token}


@pytest.fixture
def provider() -> Iterator[Provider]:
    # With a pause between its words they arrive as pieces of their own.
    with Provider(chunk_s=0.02) as provider:
        yield provider


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, Service]]:
    with Provider() as provider:
        folder = tmp_path_factory.mktemp("chat")
        with Service(folder, PINCH_TIER="minimal", **settings(provider)) as service:
            yield provider, service


@pytest.fixture
def talk(shared: tuple[Provider, Service], space: str, tmp_path: Path) -> Talk:
    provider, service = shared
    pinch = pinch_of(service)
    pinch.environ["XDG_STATE_HOME"] = str(tmp_path)
    return Talk(pinch, provider, service, space)


@pytest.fixture
def alone(provider: Provider, start: Callable[..., Service], tmp_path: Path) -> Talk:
    """With a provider that may be held and a service that may be stopped."""
    service = start(**settings(provider))
    pinch = pinch_of(service)
    pinch.environ["XDG_STATE_HOME"] = str(tmp_path)
    return Talk(pinch, provider, service, "main")


def settings(provider: Provider) -> dict[str, str]:
    return {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL}


# --- at the prompt


def test_an_answer_is_shown_while_it_comes(alone: Talk) -> None:
    with alone.open() as terminal:
        alone.provider.hold(after=2)
        terminal.say("where is the kettle")
        terminal.see("You said: ")
        alone.provider.held()
        assert "You said: where" not in terminal.shown
        alone.provider.release()
        terminal.see("where is the kettle\r\n")
        terminal.see("main> ")


def test_ctrl_c_aborts_the_answer_and_the_prompt_comes_back(talk: Talk) -> None:
    gone = talk.provider.disconnected
    with talk.open() as terminal:
        terminal.say("provider:endless")
        terminal.see("on and on and ")
        terminal.press(CTRL_C)
        terminal.see("aborted")
        terminal.see(f"{talk.session}> ")
        talk.provider.left(gone + 1)
        terminal.say("hello again")
        terminal.see("You said: hello again")
        terminal.see(f"{talk.session}> ")
        terminal.press(CTRL_D)
        assert terminal.left() == 0


def test_ctrl_c_at_an_empty_prompt_says_how_to_leave_and_ctrl_d_leaves(talk: Talk) -> None:
    with talk.open() as terminal:
        terminal.press(CTRL_C)
        terminal.see("Ctrl-D or /quit leaves")
        terminal.see(f"{talk.session}> ")
        terminal.press(CTRL_D)
        assert terminal.left() == 0


def test_ctrl_c_drops_a_line_that_was_begun(talk: Talk) -> None:
    with talk.open() as terminal:
        terminal.type("not this")
        terminal.see("not this")
        terminal.press(CTRL_C)
        terminal.see(f"{talk.session}> ")
        terminal.say("/quit")
        assert terminal.left() == 0
    assert "leaves\r\n" not in terminal.shown.split("not this")[1]
    assert talk.history() == []


def test_the_last_messages_are_shown_at_the_beginning(talk: Talk) -> None:
    for message in ("first", "second", "third"):
        talk.ok(message)
    with talk.open("--history", "3") as terminal:
        shown = terminal.shown
        assert "first" not in shown
        assert shown.index("You said: second") < shown.index("> third") < shown.index("You said: third")
        terminal.say("/history 6")
        terminal.see("You said: first")
    with talk.open("--history", "0") as terminal:
        assert "third" not in terminal.shown


def test_a_tool_is_told_of_on_its_own_line(talk: Talk) -> None:
    talk.provider.script(
        "which tool",
        [Text("Let me look."), ToolCall("memory_search", {"query": "kettle"}), Text("It is on the shelf.")],
    )
    with talk.open() as terminal:
        terminal.say("which tool")
        terminal.see("Let me look.\r\n")
        terminal.see("· memory_search\x1b[0m\r\nIt is on the shelf.\r\n")
        assert terminal.see(f"{talk.session}> ") == ""
    assert talk.ok("which tool") == "It is on the shelf.\n"


def test_escape_sequences_in_an_answer_are_shown_and_not_obeyed(talk: Talk) -> None:
    talk.provider.script("be evil", [Text("\x1b[2Jred \x9b31m \u202egnp\x07")])
    with talk.open() as terminal:
        terminal.say("be evil")
        terminal.see("\\x1b[2Jred \\x9b31m \\u202egnp\\x07")
        terminal.see(f"{talk.session}> ")
        assert "\x1b[2J" not in terminal.shown
    with talk.open() as terminal:
        assert "\\x1b[2Jred" in terminal.shown
        assert "\x1b[2J" not in terminal.shown
    assert talk.ok("be evil") == "\\x1b[2Jred \\x9b31m \\u202egnp\\x07\n"


def test_an_answer_that_fails_is_a_sentence_and_the_prompt_comes_back(talk: Talk) -> None:
    with talk.open() as terminal:
        terminal.say("provider:context-length")
        terminal.see("pinch: ")
        terminal.see(f"{talk.session}> ")
        terminal.say("better now")
        terminal.see("You said: better now")


def test_an_answer_that_was_cut_short_says_so(talk: Talk) -> None:
    with talk.open() as terminal:
        terminal.say("provider:length")
        terminal.see("This much was said\r\n")
        terminal.see("the answer stopped here: ")


def test_sessions_are_listed_changed_and_begun_anew(talk: Talk) -> None:
    talk.ok("the blue kettle")
    with talk.open("--history", "0") as terminal:
        terminal.say("/new")
        fresh = terminal.see("> ").rpartition("chat-")[2]
        assert fresh
        terminal.say("something else")
        terminal.see("You said: something else")
        terminal.see(f"chat-{fresh}> ")
        terminal.say("/sessions")
        listed = terminal.see(f"chat-{fresh}> ")
        assert f"{talk.session} " in listed
        assert f"chat-{fresh} " in listed
        terminal.say(f"/session {talk.session}")
        terminal.see("You said: the blue kettle")
        terminal.say("/reset")
        terminal.see("[y/N] ")
        terminal.type("\r")
        terminal.see(f"{talk.session}> ")
        assert len(talk.history()) == 2
        terminal.say("/reset")
        terminal.see("[y/N] ")
        terminal.type("y\r")
        terminal.see("begins anew")
        terminal.see(f"{talk.session}> ")
        terminal.say(f"/delete chat-{fresh}")
        terminal.see("[y/N] ")
        terminal.type("y\r")
        terminal.see(f"chat-{fresh} is removed")
        terminal.see(f"{talk.session}> ")
        terminal.say("/sessions")
        assert fresh not in terminal.see(f"{talk.session}> ")
    assert talk.history() == []


def test_commands_are_told_from_messages(talk: Talk) -> None:
    with talk.open() as terminal:
        terminal.say("/help")
        assert "/sessions" in terminal.see("written with two of them")
        terminal.say("/halp")
        terminal.see("/halp is no command")
        terminal.say("/session no/such key")
        terminal.see("pinch: ")
        terminal.see(f"{talk.session}> ")
        terminal.say("//etc is a folder")
        terminal.see("You said: /etc is a folder")


def test_lines_are_kept_for_the_next_time_by_their_owner_alone(talk: Talk, tmp_path: Path) -> None:
    with talk.open() as terminal:
        terminal.say("remember this line")
        terminal.see("You said: remember this line")
    kept = tmp_path / "pinch" / "chat_history"
    assert kept.read_text() == "remember this line\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    with talk.open("--history", "0") as terminal:
        terminal.type(UP)
        terminal.see("remember this line")


def test_kept_lines_are_bounded(talk: Talk, tmp_path: Path) -> None:
    kept = tmp_path / "pinch" / "chat_history"
    kept.parent.mkdir()
    kept.write_text("".join(f"line {number} {'x' * 100}\n" for number in range(5000)))
    with talk.open() as terminal:
        terminal.say("/quit")
        assert terminal.left() == 0
    lines = kept.read_text().splitlines()
    assert kept.stat().st_size < 70_000
    assert (lines[-1], lines[-2].split()[1]) == ("/quit", "4999")
    assert all(line.startswith("line ") for line in lines[:-1])


def test_a_place_that_keeps_no_lines_is_no_error(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "pinch").write_text("in the way")
    with talk.open() as terminal:
        terminal.say("hello")
        terminal.see("You said: hello")
        terminal.see(f"{talk.session}> ")


# --- one message


def test_one_message_comes_from_the_arguments_or_from_a_pipe(talk: Talk) -> None:
    assert talk.ok("where", "is", "it") == "You said: where is it\n"
    assert talk.ok(stdin="two\nlines, größer 水壺\n".encode()) == "You said: two\nlines, größer 水壺\n"
    assert talk.ok("-", stdin=b"dash") == "You said: dash\n"
    assert [role for role, _ in talk.history()] == ["user", "assistant"] * 3


def test_json_is_one_document_at_the_end(talk: Talk) -> None:
    document = json.loads(talk.ok("hello", "--json"))
    assert list(document) == ["session", "runId", "state", "text", "stopReason", "usage"]
    assert (document["session"], document["state"], document["text"]) == (talk.session, "final", "You said: hello")
    assert document["runId"]


def test_a_new_session_is_named(talk: Talk) -> None:
    first, second = (talk.pinch.json("chat", "--new", "hello")["session"] for _ in range(2))
    assert first != second
    assert json.loads(talk.pinch.ok("chat", "--session", first, "--json", "again"))["session"] == first


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "complaint"),
    [
        ([], b"", 2, "the message is empty"),
        (["  "], b"", 2, "the message is empty"),
        (["-"], b"caf\xe9", 2, "not UTF-8 at byte 3"),
        ([], b"x" * 300_000, 6, "the service takes"),
        ([], b"x" * 1_100_000, 6, "more than 1048576 bytes"),
        (["hi", "--session", "no key"], b"", 2, "key"),
        (["hi", "--session", "a", "--new"], b"", 2, "not allowed with"),
        (["hi", "--history", "-1"], b"", 2, "0 to 1000"),
        (["provider:context-length"], b"", 6, "context"),
        (["provider:401"], b"", 1, ""),
    ],
)
def test_what_cannot_be_asked_or_answered_is_one_sentence(
    talk: Talk, arguments: list[str], stdin: bytes, status: int, complaint: str
) -> None:
    assert complaint in talk.pinch.fails(status, "chat", *arguments, stdin=stdin)


def test_a_failed_answer_is_a_document_with_json(talk: Talk) -> None:
    done = talk.pinch("chat", "provider:context-length", "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["exit_status"], error["type"]) == (6, 6, "context_length")


def test_a_wrong_token_is_refused(talk: Talk) -> None:
    assert "token" in talk.pinch.fails(4, "chat", "hi", PINCH_TOKEN="x" * 30)


def test_no_provider_is_explained(minimal: Service) -> None:
    assert "provider" in pinch_of(minimal).fails(2, "chat", "hi")


def test_a_service_that_is_not_there_is_named_with_what_to_do(talk: Talk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        sentence = talk.pinch.fails(3, "chat", "hi", PINCH_URL=url)
    assert url in sentence
    assert "connection refused" in sentence
    assert "pinch serve" in sentence


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["text", "json"])
def test_ctrl_c_aborts_the_one_answer_too(talk: Talk, arguments: list[str]) -> None:
    gone, asked = talk.provider.disconnected, len(talk.provider.requests)
    with talk.begin("provider:endless", *arguments) as process:
        talk.provider.asked(asked + 1)
        process.send_signal(signal.SIGINT)
        out, complaint = process.communicate(timeout=60)
    talk.provider.left(gone + 1)
    assert (process.returncode, complaint) == (130, "")
    assert json.loads(out)["state"] == "aborted" if arguments else out == ""


def test_an_answer_that_another_client_aborts_is_a_failure(talk: Talk) -> None:
    asked = len(talk.provider.requests)
    with talk.begin("provider:endless") as process:
        talk.provider.asked(asked + 1)
        where = Address("http", "127.0.0.1", talk.service.port)
        assert ask(where, talk.service.token, "chat.abort", {"sessionKey": talk.session})["aborted"]
        out, complaint = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "somebody else aborted the answer" in complaint


def test_what_is_no_gateway_is_reported(scripted: Callable[..., Pinch]) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(404)

    assert "with 404" in scripted(respond).fails(5, "chat", "hi")


def test_the_token_does_not_follow_a_redirect(talk: Talk, scripted: Callable[..., Pinch]) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"http://127.0.0.1:{talk.service.port}/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    pinch = scripted(respond)
    pinch.environ["PINCH_TOKEN"] = talk.service.token
    assert "with 307" in pinch.fails(1, "chat", "hi")


def test_the_services_own_certificate_is_trusted_and_no_other(talk: Talk, tmp_path: Path) -> None:
    mine, other = certificate(tmp_path, "mine.pem"), certificate(tmp_path, "other.pem")
    with Relay(talk.service.port, str(mine)) as relay:
        environ = {"PINCH_LISTEN": f"127.0.0.1:{relay.port}", "PINCH_TOKEN": talk.service.token}
        pinch = Pinch({**talk.pinch.environ, **environ, "PINCH_GATEWAY_TLS_CERTIFICATE": str(mine)})
        assert pinch.ok("chat", "hello") == "You said: hello\n"
        pinch.environ["PINCH_GATEWAY_TLS_CERTIFICATE"] = str(other)
        assert "certificate is not trusted" in pinch.fails(3, "chat", "hello")


# --- a line that is cut


@pytest.mark.parametrize("gently", [True, False], ids=["stopped", "killed"])
def test_a_service_that_is_restarted_in_the_middle_of_an_answer_gives_it_again(alone: Talk, gently: bool) -> None:
    alone.provider.hold(after=3)
    with alone.open() as terminal:
        terminal.say("where is the kettle")
        terminal.see("You said: where ")
        alone.provider.held()
        alone.service.stop() if gently else alone.service.kill()
        terminal.see("the connection is lost")
        alone.provider.hold()
        alone.service.start()
        until(lambda: presence(alone) == 1, "it is connected again")
        alone.provider.release()
        terminal.see("is the kettle\r\n")
        terminal.see("main> ")
        assert terminal.shown.count("You said") == 1
    assert alone.history() == [("user", "where is the kettle"), ("assistant", "You said: where is the kettle")]


def test_an_answer_that_is_another_one_after_a_restart_is_shown_from_its_beginning(alone: Talk) -> None:
    alone.provider.queue([Text("The first try is")])
    alone.provider.hold(after=3)
    with alone.open() as terminal:
        terminal.say("try")
        terminal.see("The first try ")
        alone.provider.held()
        alone.service.kill()
        terminal.see("the connection is lost")
        alone.provider.script("try", [Text("The second one is whole")])
        alone.provider.release()
        alone.service.start()
        terminal.see("the answer begins again")
        terminal.see("The second one is whole\r\n")
        terminal.see("main> ")


@pytest.mark.parametrize("over", [False, True], ids=["going on", "over"])
def test_a_connection_cut_in_the_middle_of_an_answer_loses_no_word(alone: Talk, over: bool) -> None:
    # What stands before a tool is stored with its result, so it can be known that the service has it.
    tool = ToolCall("memory_search", {"query": "numbers"})
    end = [Text("five six")] if over else [Hold(), Text("five six")]
    alone.provider.script("count", [Text("One two "), Hold(), Text("three four "), tool, *end])
    with Relay(alone.service.port) as relay, alone.open(**alone.through(relay)) as terminal:
        terminal.say("count")
        terminal.see("One two ")
        alone.provider.held()
        relay.cut()
        terminal.see("the connection is lost")
        alone.provider.release()
        unheard = "five six" if over else "three four "
        until(lambda: any(text.endswith(unheard) for _, text in alone.history()), "words were said unheard")
        if not over:
            alone.provider.held()
        until(lambda: presence(alone) == 0, "the service has noticed")
        relay.mend()
        if not over:
            until(lambda: presence(alone) == 1, "it is connected again")
            alone.provider.release()
        terminal.see("three four five six\r\n")
        terminal.see("main> ")
        assert terminal.shown.count("One two") == 1


def test_an_answer_that_ended_while_the_connection_was_cut_is_read_from_the_history(alone: Talk) -> None:
    alone.provider.hold(after=3)
    message = "one two three four"
    with Relay(alone.service.port) as relay, alone.begin(message, "--json", **alone.through(relay)) as process:
        alone.provider.held()
        relay.cut()
        alone.provider.release()
        until(lambda: len(alone.history()) == 2, "the answer is stored")
        relay.mend()
        out, told = process.communicate(timeout=60)
    document = json.loads(out)
    assert (process.returncode, document["state"]) == (0, "final")
    assert document["text"] == "You said: one two three four"
    assert "the connection is lost" in told


def test_an_answer_that_failed_while_the_connection_was_cut_fails_here_too(alone: Talk) -> None:
    alone.provider.script("break", [Hold(), Status(400, "the kettle is empty", "invalid_request_error")])
    with Relay(alone.service.port) as relay, alone.begin("break", **alone.through(relay)) as process:
        alone.provider.held()
        relay.cut()
        alone.provider.release()
        until(lambda: ("system", "") in alone.history(), "the failure is stored")
        relay.mend()
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "the kettle is empty" in told
    with alone.open() as terminal:
        assert "the kettle is empty" in terminal.shown


def test_a_message_whose_receipt_was_lost_is_not_said_twice(alone: Talk) -> None:
    with Relay(alone.service.port) as relay:
        relay.mute_after(b"hello-ok")
        alone.provider.hold()
        with alone.begin("only once", **alone.through(relay)) as process:
            alone.provider.asked()
            relay.cut()
            relay.mend()
            alone.provider.release()
            out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "You said: only once\n")
    assert alone.history() == [("user", "only once"), ("assistant", "You said: only once")]


def test_ctrl_c_while_the_service_is_away_aborts_the_answer_when_it_is_back(alone: Talk) -> None:
    alone.provider.hold()
    with alone.begin("hello", "--json") as process:
        alone.provider.held()
        alone.service.kill()
        interrupt_while_away(process)
        alone.service.start()
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["state"]) == (130, "aborted")
    assert alone.history() == [("user", "hello"), ("system", "")]


def test_a_second_ctrl_c_leaves_a_service_that_stays_away(alone: Talk) -> None:
    alone.provider.hold()
    with alone.begin("hello") as process:
        alone.provider.held()
        alone.service.kill()
        interrupt_while_away(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def interrupt_while_away(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C when the loss has been told, and read what is said to that."""
    assert process.stderr is not None
    assert "the connection is lost" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    while "as soon as the service can be asked" not in (line := process.stderr.readline()):
        assert line


def presence(talk: Talk) -> int:
    """Return how many others are connected."""
    where = Address("http", "127.0.0.1", talk.service.port)
    found: Any = ask(where, talk.service.token, "status", {})
    return int(found["connections"]["clients"]) - 1


def test_nothing_of_it_is_paid_by_other_commands(talk: Talk) -> None:
    program = "import sys; from pinch.cli import main; main(['budget']); print(sorted(sys.modules))"
    command = [talk.pinch.bare()[0], "-c", program]
    done = subprocess.run(command, env=dict(os.environ, **talk.pinch.environ), capture_output=True, text=True)
    assert "pinch.cli.client" in done.stdout
    assert not {"pinch.cli.chat", "pinch.cli.gateway", "readline", "aiohttp"} & set(done.stdout.split("'"))
