"""What its users type first finds this service to be a gateway."""

from __future__ import annotations

import secrets
import uuid

import pytest

from tests.openclaw.cli import OpenClaw
from tests.running import LocalService


def test_health_is_ok(openclaw: OpenClaw) -> None:
    said = openclaw("gateway", "health")
    assert said.status == 0, said
    assert "Gateway Health\nOK (" in said.out


def test_probe_reaches_it_and_reads_all_it_asks_for(openclaw: OpenClaw) -> None:
    found = openclaw("gateway", "probe", "--json").json
    (target,) = [target for target in found["targets"] if target["kind"] == "explicit"]
    assert target["connect"]["error"] is None
    assert target["connect"]["ok"]
    assert target["connect"]["rpcOk"]
    assert not target["connect"]["scopeLimited"]
    assert target["auth"]["role"] == "operator"
    assert target["health"]["ok"]
    assert target["summary"]["tier"] == "minimal"
    assert (found["ok"], found["degraded"], found["warnings"]) == (True, False, [])


def test_probe_says_so_in_words(openclaw: OpenClaw) -> None:
    said = openclaw("gateway", "probe")
    assert said.status == 0, said
    assert "Reachable: yes" in said.out
    assert "Read probe: ok" in said.out
    assert "failed" not in said.out, said.out


def test_status_is_read(openclaw: OpenClaw) -> None:
    status = openclaw.call("status")
    assert {"version", "tier", "uptimeMs", "sessions", "connections", "runs", "provider", "memory"} <= set(status)


def test_what_was_said_to_the_agent_is_among_the_sessions(openclaw: OpenClaw) -> None:
    session = f"openclaw-{uuid.uuid4().hex[:12]}"
    asked = {"sessionKey": session, "message": "the kettle", "idempotencyKey": session}
    answered = openclaw.call("agent", "--expect-final", **asked)
    assert answered["status"] == "ok"
    assert answered["runId"] == session
    listed = openclaw.call("sessions.list")
    assert listed["count"] >= 1
    assert session in [entry["key"] for entry in listed["sessions"]]
    history = openclaw.call("chat.history", sessionKey=session)
    assert [message["role"] for message in history["messages"]] == ["user", "assistant"]
    assert "You said: the kettle" in str(history["messages"][1]["content"])


def test_the_log_is_read(openclaw: OpenClaw, service: LocalService) -> None:
    said = openclaw("logs", "--plain")
    assert said.status == 0, said
    last = service.log.read_text("utf-8").splitlines()[-1]
    assert last.rpartition(": ")[2] in said.out


def test_an_unknown_method_is_told_by_its_name(openclaw: OpenClaw) -> None:
    said = openclaw("gateway", "call", "no.such.method")
    assert said.status == 1
    assert "Gateway call failed:" in said.out + said.err
    assert "no.such.method" in said.out + said.err


@pytest.mark.parametrize("command", [["health"], ["call", "status"], ["call", "sessions.list"]])
def test_a_wrong_token_is_refused_in_the_services_words(
    openclaw: OpenClaw, service: LocalService, command: list[str]
) -> None:
    wrong = secrets.token_urlsafe(32)
    said = openclaw("gateway", *command, token=wrong)
    assert said.status == 1
    assert "gateway connect failed:" in said.out + said.err
    assert "token" in said.err.lower() + said.out.lower()
    assert wrong not in service.log.read_text("utf-8"), "a token is not logged"


def test_probe_with_a_wrong_token_reads_nothing(openclaw: OpenClaw) -> None:
    found = openclaw("gateway", "probe", "--json", token="wrong").json
    (target,) = [target for target in found["targets"] if target["kind"] == "explicit"]
    assert not target["connect"]["rpcOk"]
    assert target["summary"] is None
    assert found["warnings"]
