import json
from pathlib import Path

import pytest

from service.tests.cli.command import Pinch


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_tokens_are_added_shown_rotated_and_revoked(fresh: Pinch) -> None:
    first = fresh.ok("token", "show").strip()
    second = fresh.ok("token", "add", "laptop").strip()
    assert len(second) >= 43
    assert fresh.ok("token", "show", "laptop").strip() == second
    third = fresh.json("token", "rotate", "laptop", "--grace", "2h")["token"]
    assert fresh.ok("token", "show", "laptop").strip() == third
    listed = fresh.json("token", "list")["tokens"]
    assert [entry["name"] for entry in listed] == ["test", "laptop", "laptop"]
    assert [entry["until"] is None for entry in listed] == [True, False, True]
    assert not any(token in fresh.ok("token", "list") for token in (first, second, third))
    fresh.ok("token", "revoke", "laptop")
    assert len(fresh.json("token", "list")["tokens"]) == 1


def test_the_service_takes_up_a_changed_file(fresh: Pinch) -> None:
    import time

    fresh.ok("token", "add", "laptop")
    token = fresh.ok("token", "show", "laptop").strip()
    until = time.monotonic() + 10
    while fresh("budget", environ={"PINCH_TOKEN": token}).returncode:
        assert time.monotonic() < until


def test_a_first_token_makes_the_file(pinch: Pinch, tokens: Path) -> None:
    assert "does not exist" in pinch.fails(1, "token", "show", PINCH_TOKENS_FILE=str(tokens))
    assert pinch("token", "add", "me", environ={"PINCH_TOKENS_FILE": str(tokens)}).returncode == 0
    assert tokens.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["show", "absent"], 5, "is called absent"),
        (["rotate", "absent"], 5, "the file has: me"),
        (["revoke", "absent"], 5, "the file has: me"),
        (["revoke", "me"], 1, "last valid token"),
        (["add", "me"], 1, "exists"),
        (["add", "two words"], 1, "no token name"),
        (["rotate", "me", "--grace", "soon"], 2, "no time"),
        (["rotate", "me", "--grace", "99999d"], 2, "no time"),
        ([], 2, "ACTION"),
    ],
)
def test_what_cannot_be_done_to_a_token_is_explained(
    pinch: Pinch, tokens: Path, arguments: list[str], status: int, complaint: str
) -> None:
    pinch("token", "add", "me", environ={"PINCH_TOKENS_FILE": str(tokens)})
    assert complaint in pinch.fails(status, "token", *arguments, PINCH_TOKENS_FILE=str(tokens))


MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("mem_mb", "machine", "tier", "nominal"),
    [
        (3787, "aarch64", "full", 4096),
        (430, "aarch64", "minimal", 512),
        (921, "aarch64", "light", 1024),
        (1900, "aarch64", "light", 2048),
        (3787, "armv7l", "minimal", 4096),
        (64_000, "x86_64", "full", 64_000),
    ],
)
def test_a_board_is_judged_by_what_it_is_sold_as(
    pinch: Pinch, mem_mb: int, machine: str, tier: str, nominal: int
) -> None:
    found = pinch.json("tier", "--mem-total", str(mem_mb * MEBIBYTE), "--machine", machine)
    assert (found["tier"], found["nominal_mb"], found["fits"], found["pinned"]) == (tier, nominal, True, False)


def test_a_32_bit_userland_on_a_64_bit_kernel_is_minimal(pinch: Pinch) -> None:
    found = pinch.json("tier", "--mem-total", str(3787 * MEBIBYTE), "--machine", "aarch64", "--bits", "32")
    assert (found["tier"], "ONNX" in found["why"]) == ("minimal", True)


def test_a_tier_that_does_not_fit_fails_with_the_reason(pinch: Pinch) -> None:
    done = pinch("tier", "--mem-total", str(100 * MEBIBYTE), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["fits"]) == (1, False)
    assert "this machine has 100 MB" in found["misfit"]


def test_a_pinned_tier_says_so(pinch: Pinch) -> None:
    found = pinch.json("tier")
    assert (found["tier"], found["pinned"]) == ("minimal", True)
    assert "the setting tier says so" in pinch.ok("tier")


def test_the_budget_names_every_account_and_what_nobody_explains(pinch: Pinch) -> None:
    budget = pinch.json("budget")
    shown = pinch.ok("budget")
    for account in budget["accounts"]:
        assert f"\n{account['name']} " in shown
    for line in ("accounts together", "unattributed", "anonymous memory", "mapped files", "resident", "tier minimal"):
        assert f"\n{line}" in shown
    assert budget["budget_bytes"] == 40 * MEBIBYTE
