"""The service: whether it answers, and whether it is ready."""

from __future__ import annotations

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
        return [
            Finding(
                "service", Status.FAIL, f"{where} answered /readyz with {status}, not as Pinch does", advice
            )
        ]
    if not answer["ready"]:
        waiting = (
            ", ".join(str(part) for part in answer.get("waiting_for") or []) or "something it does not name"
        )
        return [
            Finding(
                "service", Status.WARN, f"{where} answers and waits for: {waiting}", "try again in a minute"
            )
        ]
    try:
        client.json("GET", "/v1/budget", retry=False)
    except CommandError as error:
        return [Finding("service", Status.FAIL, f"{where} is ready, but: {error.message}", error.hint)]
    return [Finding("service", Status.OK, f"{where} is ready")]
