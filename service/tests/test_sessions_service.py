"""Sessions of the running service: full disk, kill, abort, editor and second try cost no acknowledged word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pinch.agents.agent import RESUMES

from service.tests import test_full_disk
from service.tests.serving import Service, until
from tests.frames import Gateway, Refused
from tests.provider import MODEL, Hold, Provider, Text, ToolCall

Starter = Callable[..., Service]
small_disk = test_full_disk.small_disk
LONG = "kettle " * 900
"""More than a page: on a full disk there is no room for it, not even in the last page of a file."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def chatting(start: Starter, provider: Provider) -> Starter:
    """Starts a service that the provider answers for; a second call starts one on the same state."""

    def begin(**environment: str) -> Service:
        return start(PINCH_PROVIDER_BASE_URL=provider.url, PINCH_PROVIDER_MODEL=MODEL, **environment)

    return begin


def connected(service: Service) -> Gateway:
    gateway = Gateway(service.port)
    gateway.connect(service.token)
    return gateway


def send(gateway: Gateway, message: str, key: str, session: str = "main") -> Any:
    return gateway.request("chat.send", {"sessionKey": session, "message": message, "idempotencyKey": key})


def history(gateway: Gateway, session: str = "main") -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = gateway.request("chat.history", {"sessionKey": session})["messages"]
    return messages


def said(gateway: Gateway, session: str = "main") -> list[tuple[str, str]]:
    """Return who said what, without how it ended."""
    return [(one["role"], one["content"][0]["text"]) for one in history(gateway, session) if one["content"]]


def answered(service: Service, key: str, session: str = "main") -> list[dict[str, Any]]:
    """Wait until a run has ended, whoever was told, and return the session's history."""
    with connected(service) as gateway:
        wanted = {"sessionKey": session, "message": "any", "idempotencyKey": key}
        until(lambda: gateway.request("chat.send", wanted)["status"] == "ok", "the run ends")
        return history(gateway, session)


def file_of(service: Service, session: str = "main") -> Path:
    return service.state / "sessions" / f"{session}.jsonl"


def kinds(service: Service, run: str) -> list[str]:
    """Return what the file holds of a run, in order."""
    lines = [json.loads(line) for line in file_of(service).read_text("utf-8").splitlines()]
    return [line["type"] for line in lines if line.get("run") == run]


def test_a_disk_that_fills_during_an_answer_costs_the_answer_alone(
    chatting: Starter, provider: Provider, small_disk: Path
) -> None:
    service = chatting(PINCH_STATE_DIR=str(small_disk / "state"))
    file = small_disk / "state" / "sessions" / "main.jsonl"
    with connected(service) as gateway:
        assert gateway.say("before", key="before")[-1]["state"] == "final"
        provider.hold(after=3)
        send(gateway, LONG, "during")
        provider.held()
        filler = test_full_disk.fill(small_disk)
        stored = file.read_bytes()
        provider.release()
        end = gateway.run("during")[-1]
        assert end["state"] == "error", end
        assert "disk is full" in end["errorMessage"]
        assert end["message"]["content"][0]["text"] == f"You said: {LONG}", "what was said is told all the same"
        for number in range(5):
            with pytest.raises(Refused, match="disk is full") as refused:
                send(gateway, LONG, f"full-{number}")
            assert refused.value.code == "UNAVAILABLE"
            assert refused.value.details["type"] == "storage_full"
        wanted = {"sessionKey": "main", "message": LONG, "idempotencyKey": "twin"}
        for request in [gateway.send("chat.send", wanted) for _ in range(4)]:
            with pytest.raises(Refused, match="disk is full"):  # and not "in flight": nothing of it is stored
                gateway.response(request)
        with pytest.raises(Refused, match="disk is full"):
            send(gateway, LONG, "new", session="another")
        with pytest.raises(Refused, match="disk is full"):
            gateway.request("sessions.reset", {"key": "main"})
        assert file.read_bytes() == stored, "nothing half-stored"
        assert said(gateway) == [("user", "before"), ("assistant", "You said: before"), ("user", LONG)]
        filler.unlink()
        assert send(gateway, LONG, "during") == {"runId": "during", "status": "started"}, "its end was never stored"
        assert gateway.run("during")[-1]["state"] == "final"
        assert gateway.say("after", key="after")[-1]["state"] == "final"
        expected = [("user", "before"), ("assistant", "You said: before"), ("user", LONG)]
        expected += [("assistant", f"You said: {LONG}"), ("user", "after"), ("assistant", "You said: after")]
        assert said(gateway) == expected
    assert "someone else" not in service.said(), "a full disk is nobody's editor"
    service.stop()
    service.start()
    with connected(service) as gateway:
        assert said(gateway) == expected


def test_a_kill_on_a_full_disk_loses_nothing_that_was_acknowledged(
    chatting: Starter, provider: Provider, small_disk: Path
) -> None:
    service = chatting(PINCH_STATE_DIR=str(small_disk / "state"))
    with connected(service) as gateway:
        gateway.say("before", key="before")
        provider.hold()
        send(gateway, LONG, "during")
        provider.held()
        filler = test_full_disk.fill(small_disk)
        with pytest.raises(Refused):
            send(gateway, LONG, "refused")
    service.kill()
    provider.release()
    service.start()
    with connected(service) as gateway:
        assert ("user", LONG) in said(gateway)
    filler.unlink()
    service.kill()
    service.start()
    messages = answered(service, "during")
    assert [one["runId"] for one in messages if one["role"] == "user"] == ["before", "during"]


def test_the_same_key_starts_nothing_twice(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    with connected(service) as gateway, connected(service) as other:
        provider.hold(after=1)
        assert send(gateway, "hello", "a")["status"] == "started"
        assert send(other, "hello", "a") == {"runId": "a", "status": "in_flight"}
        assert send(other, "something else", "a")["status"] == "in_flight"
        provider.held()
        assert send(gateway, "hello", "a")["status"] == "in_flight"
        assert send(other, "hello", "a", session="other")["status"] == "started", "another session's is another"
        provider.held(2)
        provider.release()
        gateway.run("a", session="main")
        assert send(other, "hello", "a") == {"runId": "a", "status": "ok"}
        assert said(gateway) == [("user", "hello"), ("assistant", "You said: hello")]
    for end in (service.stop, service.kill):
        answered(service, "a", "other")
        end()
        service.start()
        with connected(service) as gateway:
            assert send(gateway, "hello", "a")["status"] == "ok"
            assert said(gateway) == [("user", "hello"), ("assistant", "You said: hello")]
    assert len(provider.requests) == 2


def test_of_many_at_once_with_one_key_one_is_stored(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    gateways = [connected(service) for _ in range(8)]
    wanted = {"sessionKey": "main", "message": "hello", "idempotencyKey": "a"}
    sent = [(gateway, gateway.send("chat.send", wanted)) for gateway in gateways for _ in range(4)]
    statuses = [gateway.response(request)["status"] for gateway, request in sent]
    assert statuses.count("started") == 1
    assert set(statuses) <= {"started", "in_flight", "ok"}
    for gateway in gateways:
        assert gateway.run("a")[-1]["state"] == "final"
        gateway.wire.drop()
    assert len(provider.requests) == 1
    assert kinds(service, "a") == ["user", "assistant", "end"]


def test_an_answer_that_a_kill_has_cut_is_given_after_the_start(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    with connected(service) as gateway:
        gateway.say("before", key="before")
        provider.hold(after=2)
        for number in range(3):
            send(gateway, f"hello {number}", f"run-{number}")
        provider.held()
        service.kill()
    provider.release()
    service.start()
    for number in range(3):
        answered(service, f"run-{number}")
    with connected(service) as gateway:
        assert sorted(said(gateway)) == sorted(
            (role, text)
            for one in ("before", "hello 0", "hello 1", "hello 2")
            for role, text in (("user", one), ("assistant", f"You said: {one}"))
        )
    asked = [request.asked for request in provider.requests]
    assert asked == ["before", "hello 0", "hello 0", "hello 1", "hello 2"], "in the order in which they were said"


def test_an_answer_that_takes_the_service_down_is_given_up(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    provider.hold(after=1)
    with connected(service) as gateway:
        send(gateway, "a fatal question", "fatal")
    for number in range(1 + RESUMES):
        provider.asked(number + 1)
        provider.held()
        service.kill()
        provider.left(number + 1)
        service.start()
    messages = answered(service, "fatal")
    assert messages[-1]["role"] == "system"
    assert f"stopped {1 + RESUMES} times" in messages[-1]["errorMessage"]
    assert kinds(service, "fatal") == ["user", *["resumed"] * RESUMES, "end"]
    provider.release()
    with connected(service) as gateway:
        assert gateway.say("hello")[-1]["state"] == "final"
    assert len(provider.requests) == 2 + RESUMES


def test_without_a_provider_after_the_start_it_is_told(chatting: Starter, start: Starter, provider: Provider) -> None:
    service = chatting()
    provider.hold(after=1)
    with connected(service) as gateway:
        send(gateway, "hello", "a")
        provider.held()
    service.kill()
    other = start()
    with connected(other) as gateway:
        assert "no provider" in history(gateway)[-1]["errorMessage"]


def test_a_tool_that_was_called_before_a_kill_is_not_called_again(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    provider.script("remember it", [ToolCall("memory_remember", {"text": "the kettle is red"}), Hold(), Text("Done.")])
    with connected(service) as gateway:
        send(gateway, "remember it", "a")
        provider.held()
    service.kill()
    provider.left()
    service.start()
    provider.held()
    provider.release()
    answered(service, "a")
    assert kinds(service, "a") == ["user", "assistant", "tool", "resumed", "assistant", "end"]
    assert service.texts("kettle") == ["the kettle is red"]


def test_an_answer_is_aborted_while_it_waits(chatting: Starter, provider: Provider) -> None:
    service = chatting(PINCH_AGENTS_MAX_RUNS="1")
    provider.hold()
    with connected(service) as gateway:
        send(gateway, "busy", "busy", session="busy")
        provider.held()
        for number in range(3):
            send(gateway, "hello", f"waits-{number}")
        aborted = gateway.request("chat.abort", {"sessionKey": "main", "runId": "waits-1"})
        assert aborted == {"ok": True, "aborted": True, "runIds": ["waits-1"]}
        assert gateway.run("waits-1")[-1]["state"] == "aborted"
        aborted = gateway.request("chat.abort", {"sessionKey": "main"})
        assert aborted["runIds"] == ["waits-0", "waits-2"]
        assert gateway.request("chat.abort", {"sessionKey": "main"}) == {"ok": True, "aborted": False, "runIds": []}
        assert send(gateway, "hello", "waits-1")["status"] == "ok"
        provider.release()
        gateway.run("busy")
        assert gateway.say("hello again", key="again")[-1]["state"] == "final"
        assert [role for role, _ in said(gateway)] == ["user"] * 4 + ["assistant"]
    assert [request.asked for request in provider.requests] == ["busy", "hello again"]


@pytest.mark.parametrize(("chunks", "kept"), [(0, []), (2, [("assistant", "You said: ")])])
def test_an_answer_is_aborted_before_and_after_its_first_byte(
    chatting: Starter, provider: Provider, chunks: int, kept: list[tuple[str, str]]
) -> None:
    service = chatting()
    provider.hold(after=chunks)
    with connected(service) as gateway:
        send(gateway, "hello there", "a")
        provider.held()
        if chunks:
            heard = ""
            while heard != "You said: ":
                heard += gateway.event("chat")["deltaText"]
        assert gateway.request("chat.abort", {"sessionKey": "main"})["runIds"] == ["a"]
        end = gateway.run("a")[-1]
        assert (end["state"], end["stopReason"]) == ("aborted", "aborted")
        provider.left()
        assert said(gateway) == [("user", "hello there"), *kept]
        provider.release()
        assert gateway.say("and now", key="b")[-1]["state"] == "final"
    assert kinds(service, "a")[-1] == "end"
    service.kill()
    service.start()
    with connected(service) as gateway:
        assert len(said(gateway)) == 3 + len(kept)
    assert len(provider.requests) == 2, "an aborted run is not gone on with"


@pytest.mark.parametrize("events", range(8))
def test_an_answer_is_aborted_between_its_tools(chatting: Starter, provider: Provider, events: int) -> None:
    service = chatting()
    calls = [ToolCall("memory_search", {"query": f"kettle {number}"}) for number in range(4)]
    provider.script("look around", [Text("Let me see."), *calls, Text("Again."), *calls, Text("Nothing.")])
    with connected(service) as gateway:
        send(gateway, "look around", "a")
        stream = gateway.events(until=lambda event: event["payload"].get("state") in {"final", "aborted", "error"})
        end = next(event for number, event in enumerate(stream) if number == events or event is None)
        gateway.request("chat.abort", {"sessionKey": "main"})
        for end in stream:  # noqa: B007 - the last one counts
            pass
        assert end["payload"]["state"] in {"aborted", "final"}
        assert kinds(service, "a").count("end") == 1
        assert kinds(service, "a")[-1] == "end"
        assert gateway.say("and now", key="b")[-1]["state"] == "final", "what is left is a conversation"
        assert said(gateway)[-1] == ("assistant", "You said: and now")


def test_who_goes_away_during_an_abort_leaves_nothing_behind(chatting: Starter, provider: Provider) -> None:
    service = chatting(PINCH_AGENTS_MAX_RUNS="1")
    provider.hold()
    with connected(service) as gateway:
        send(gateway, "busy", "busy", session="busy")
        provider.held()
        for number in range(20):
            send(gateway, "hello", f"waits-{number}")
        with connected(service) as other:
            other.send("chat.abort", {"sessionKey": "main"})
        ended = {f"waits-{number}" for number in range(20)}
        for event in gateway.events():
            if event["payload"].get("state") == "aborted":
                ended.remove(event["payload"]["runId"])
            if not ended:
                break
        provider.release()
        gateway.run("busy")
        assert send(gateway, "hello", "waits-7")["status"] == "ok"


@pytest.mark.parametrize("method", ["sessions.reset", "sessions.delete"])
def test_a_session_is_begun_anew_during_an_answer(chatting: Starter, provider: Provider, method: str) -> None:
    service = chatting()
    provider.hold(after=2)
    with connected(service) as gateway:
        send(gateway, "hello", "a")
        send(gateway, "waits", "b")
        provider.held()
        assert gateway.request(method, {"key": "main"})["ok"]
        ended = {gateway.run(run)[-1]["state"] for run in ("b",)}
        assert ended == {"aborted"}
        provider.release()
        assert said(gateway) == []
        assert gateway.say("anew", key="a")[-1]["state"] == "final", "its keys are free again"
        assert said(gateway) == [("user", "anew"), ("assistant", "You said: anew")]
        assert len(gateway.request("sessions.list")["sessions"]) == 1


@pytest.mark.parametrize("method", ["sessions.reset", "sessions.delete"])
def test_whatever_races_with_a_reset_ends_and_leaves_a_session(
    chatting: Starter, provider: Provider, method: str
) -> None:
    service = chatting()
    with connected(service) as gateway, connected(service) as other:
        for number in range(15):
            key = f"run-{number}"
            wanted = {"sessionKey": "main", "message": f"hello {number}", "idempotencyKey": key}
            request = gateway.send("chat.send", wanted)
            racing = other.send(method, {"key": "main"})
            assert gateway.response(request)["status"] == "started"
            with suppress(Refused):  # there may be no session yet
                other.response(racing)
            assert gateway.run(key)[-1]["state"] in {"final", "aborted", "error"}
        assert gateway.say("at last", key="last")[-1]["state"] == "final"
    asked = [request.asked for request in provider.requests]
    assert "" not in asked, "nobody is asked about nothing"


def test_a_file_that_is_edited_while_the_service_runs_is_what_counts(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    with connected(service) as gateway:
        gateway.say("the kettle is red", key="a")
        file = file_of(service)
        file.write_text(file.read_text("utf-8").replace("is red", "is old"), "utf-8")
        assert said(gateway)[0] == ("user", "the kettle is old")
        line = {"type": "user", "run": "hand", "at": "2026-01-01T00:00:00Z", "text": "by hand"}
        file.write_text(file.read_text("utf-8") + json.dumps(line) + "\nkettle\n", "utf-8")
        gateway.say("and now", key="b")
        told = [(one["role"], one["content"]) for one in provider.requests[-1].body["messages"][1:]]
        assert told == [
            ("user", "the kettle is old"),
            ("assistant", "You said: the kettle is old"),
            ("user", "by hand"),
            ("user", "and now"),
        ]
        (listed,) = gateway.request("sessions.list")["sessions"]
        assert "1 lines are no entries" in listed["damage"]
        assert b"\nkettle\n" in file.read_bytes()
        file.unlink()
        assert history(gateway) == []
        gateway.say("anew", key="c")
        assert said(gateway) == [("user", "anew"), ("assistant", "You said: anew")]


def test_a_file_that_is_edited_during_an_answer_keeps_the_edit_and_the_answer(
    chatting: Starter, provider: Provider
) -> None:
    service = chatting()
    provider.hold(after=2)
    with connected(service) as gateway:
        send(gateway, "hello", "a")
        provider.held()
        file = file_of(service)
        line = {"type": "user", "run": "hand", "at": "2026-01-01T00:00:00Z", "text": "by hand"}
        file.write_text(file.read_text("utf-8") + json.dumps(line), "utf-8")  # and no newline, as editors do
        provider.release()
        assert gateway.run("a")[-1]["state"] == "final"
        assert said(gateway) == [("user", "hello"), ("user", "by hand"), ("assistant", "You said: hello")]


def test_a_session_that_outgrew_its_limit_goes_on_and_the_rest_is_remembered(chatting: Starter) -> None:
    service = chatting(PINCH_AGENTS_SESSION_KB="8")
    with connected(service) as gateway:
        for number in range(30):
            assert gateway.say(f"message {number} {'kettle ' * 100}", key=f"run-{number}")[-1]["state"] == "final"
        until(lambda: file_of(service).stat().st_size <= 8 * 1024, "it is compacted")
        shown = said(gateway)
    assert shown[-2][1].startswith("message 29 ")
    archived = {memory["text"] for memory in service.listed(space="sessions")}
    texts = {text for _, text in shown} | archived
    for number in range(30):
        assert f"message {number} {'kettle ' * 100}" in texts
        assert f"You said: message {number} {'kettle ' * 100}" in texts


def test_a_directory_in_the_place_of_a_session_keeps_the_service_from_nothing(chatting: Starter) -> None:
    service = chatting()
    with connected(service) as gateway:
        gateway.say("hello", key="a")
    service.stop()
    (service.state / "sessions" / "folder.jsonl").mkdir()
    (service.state / "sessions" / "index.json").write_text("[" * 100_000)
    service.start()
    with connected(service) as gateway:
        assert said(gateway) == [("user", "hello"), ("assistant", "You said: hello")]
        with pytest.raises(Refused, match="Is a directory"):
            send(gateway, "hello", "b", session="folder")


def test_what_an_answer_is_asked_with_outlasts_a_kill(chatting: Starter, provider: Provider) -> None:
    provider.hold()
    service = chatting()
    with connected(service) as gateway:
        wanted = {"sessionKey": "main", "message": "hello", "idempotencyKey": "k", "extraSystemPrompt": "Speak Czech."}
        gateway.send("agent", wanted)
        provider.held()
        service.kill()
    provider.release()
    again = chatting()
    assert answered(again, "k")[-1]["content"][0]["text"] == "You said: hello"
    systems = [one.body["messages"][0]["content"] for one in provider.requests]
    assert [text.count("Speak Czech.") for text in systems] == [1, 1]


def test_the_same_key_right_after_a_restart_is_answered_once(chatting: Starter, provider: Provider) -> None:
    provider.hold()
    service = chatting()
    with connected(service) as gateway:
        for number in range(6):
            send(gateway, f"message {number}", f"k{number}", f"s{number}")
        provider.held()
        service.kill()
    provider.release()
    again = chatting()
    with connected(again) as gateway:
        for number in range(6):
            send(gateway, f"message {number}", f"k{number}", f"s{number}")
    for number in range(6):
        roles = [one["role"] for one in answered(again, f"k{number}", f"s{number}")]
        assert roles == ["user", "assistant"]
        kinds = [json.loads(line)["type"] for line in file_of(again, f"s{number}").read_bytes().splitlines()]
        assert kinds.count("end") == 1, kinds


def test_an_answer_that_a_snapshot_has_cut_ends_where_it_is_loaded(chatting: Starter, provider: Provider) -> None:
    service = chatting()
    provider.hold()
    with connected(service) as gateway:
        send(gateway, "hello", "k")
        provider.held()
        snapshot = service.call("GET", "/v1/snapshot").content
        assert service.call("PUT", "/v1/snapshot", snapshot).json["sessions"] == 1
        assert [one.get("stopReason") for one in history(gateway)] == [None, "aborted"]
    provider.release()
    service.stop()
    before = len(provider.requests)
    with connected(chatting()) as gateway:
        assert gateway.say("and now?", key="n")[-1]["state"] == "final"
    assert len(provider.requests) == before + 1, "what the snapshot had cut is not gone on with"
