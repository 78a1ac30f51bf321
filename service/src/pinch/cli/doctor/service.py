"""The service: whether it answers, and whether it is ready."""

from __future__ import annotations

from typing import Any

from pinch.cli.context import Context
from pinch.cli.doctor.host import Finding, Status
from pinch.cli.errors import CommandError


def check(context: Context) -> list[Finding]:
    """Ask `/readyz` with a token, which also says what the service waits for."""
    try:
        client = context.client
        status, answer = client.health("/readyz")
    except CommandError as error:
        return [Finding("service", Status.FAIL, error.message, error.hint)]
    where = client.address.url
    if not isinstance(answer, dict) or "ready" not in answer:
        advice = "check that PINCH_URL or the setting listen names the Pinch service"
        return [Finding("service", Status.FAIL, f"{where} answered /readyz with {status}, not as Pinch does", advice)]
    findings = [_readiness(where, answer), *_store(answer)]
    try:
        client.json("GET", "/v1/budget", retry=False)
    except CommandError as error:
        findings.append(Finding("service", Status.FAIL, f"{where} answers, but: {error.message}", error.hint))
    return findings


def _readiness(where: str, answer: dict[str, Any]) -> Finding:
    if answer["ready"]:
        return Finding("service", Status.OK, f"{where} is ready")
    waiting = ", ".join(str(part) for part in answer.get("waiting_for") or []) or "something it does not name"
    return Finding("service", Status.WARN, f"{where} answers and waits for: {waiting}", "try again in a minute")


def _store(answer: dict[str, Any]) -> list[Finding]:
    store, aside = answer.get("store") or "ok", answer.get("set_aside")
    if store != "ok":
        advice = "restart the service: it sets a damaged store aside; then `pinch snapshot load` the last snapshot"
        return [Finding("store", Status.FAIL, f"the store is {store}", advice)]
    if aside:
        advice = "load the last snapshot (`pinch snapshot load FILE`), and keep that file until you have"
        return [Finding("store", Status.WARN, f"a damaged store was set aside as {aside}", advice)]
    return []
