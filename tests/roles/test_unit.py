"""The service's unit: its limits and its sandbox, judged by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from pinch_plan.checks import settings_problems

from tests.roles.sources import ROLES

TEMPLATES = ROLES / "pinch" / "templates"


def render(name: str, **changes: Any) -> str:
    """Render a template as Ansible would for a board of the light tier."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, autoescape=False)
    environment.tests["match"] = lambda value, pattern: re.match(pattern, value) is not None
    variables: dict[str, Any] = {
        "ansible_managed": "Ansible managed",
        "preflight_board": {"systemd": 257},
        "preflight_plan": {"limits": {"high_mb": 92, "max_mb": 100, "swap_max_mb": 64}},
        "pinch_environment": {"MALLOC_ARENA_MAX": "1"},
        "pinch_watchdog_s": 60,
        "pinch_start_timeout_s": 180,
        "pinch_ip_allow": [],
        "pinch_provider_key": "",
        "__pinch_loopback": True,
        "__pinch_provider_loopback": True,
        "__pinch_home": "/opt/pinch",
        "__pinch_folders": [],
    }
    return environment.get_template(name).render(variables | changes)


def test_the_limits_are_the_plans() -> None:
    lines = render("pinch.service.j2").splitlines()
    assert {"MemoryHigh=92M", "MemoryMax=100M", "MemorySwapMax=64M"} <= set(lines)


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, ["localhost"]),
        ({"__pinch_loopback": False}, []),
        ({"__pinch_provider_loopback": False}, []),
        ({"pinch_ip_allow": ["192.168.1.0/24", "localhost"]}, ["192.168.1.0/24 localhost"]),
    ],
)
def test_a_service_on_loopback_talks_to_loopback_alone(changes: dict[str, Any], allowed: list[str]) -> None:
    lines = render("pinch.service.j2", **changes).splitlines()
    assert [line.removeprefix("IPAddressAllow=") for line in lines if line.startswith("IPAddressAllow=")] == allowed
    assert ("IPAddressDeny=any" in lines) is bool(allowed)


def test_a_key_is_a_credential_and_not_in_the_unit() -> None:
    lines = render("pinch.service.j2", pinch_provider_key="sk-secret").splitlines()
    assert "LoadCredential=provider-key:/etc/pinch/provider-key" in lines
    assert "Environment=PINCH_PROVIDER_KEY_FILE=%d/provider-key" in lines
    assert not any("sk-secret" in line for line in lines)
    assert not any("provider" in line.lower() for line in render("pinch.service.j2").splitlines())


@pytest.mark.parametrize(
    ("url", "local"),
    [("", True), ("http://127.0.0.1:11434/v1", True), ("http://localhost:8080/v1", True), ("http://[::1]:1/v1", True),
     ("https://api.example.com/v1", False), ("http://192.168.1.9:11434/v1", False),
     ("http://localhost.example.com/v1", False)],
)  # fmt: skip
def test_a_provider_elsewhere_is_told_from_one_on_the_board(url: str, local: bool) -> None:
    variables = yaml.safe_load((ROLES / "pinch" / "vars" / "main.yml").read_text("utf-8"))
    environment = jinja2.Environment(autoescape=False)
    environment.tests["match"] = lambda value, pattern: re.match(pattern, value) is not None
    expression = environment.from_string(variables["__pinch_provider_loopback"])
    assert expression.render(__pinch_provider=url) == str(local)


@pytest.mark.parametrize(("folder", "said"), [("/home/pi/notes", "read-only"), ("/srv/notes", "yes")])
def test_folders_to_sync_are_in_sight(folder: str, said: str) -> None:
    assert f"ProtectHome={said}" in render("pinch.service.j2", __pinch_folders=[folder]).splitlines()


def test_no_token_is_in_a_unit_nor_in_the_journal() -> None:
    assert "LoadCredential=tokens:/etc/pinch/tokens" in render("pinch.service.j2").splitlines()
    assert "StandardOutput=null" in render("pinch-tokens.service.j2").splitlines()


@pytest.mark.parametrize(("version", "waits"), [(252, "RestartSec=5"), (255, "RestartMaxDelaySec=30")])
def test_every_systemd_restarts_the_service_without_end(version: int, waits: str) -> None:
    lines = render("pinch.service.j2", preflight_board={"systemd": version}).splitlines()
    assert {"Restart=always", "StartLimitIntervalSec=0", waits} <= set(lines)
    assert len([line for line in lines if line.startswith("RestartSec=")]) == 1


def test_systemd_knows_every_key_of_the_units(tmp_path: Path) -> None:
    """Unknown ones are warned of and left out, so a limit could be missing and nobody would see."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this controller")
    shown = subprocess.run([analyze, "--version"], capture_output=True, text=True, check=True)
    here = {"systemd": int(shown.stdout.split()[1])}
    for name in ("pinch.service", "pinch-tokens.service"):
        text = render(f"{name}.j2", preflight_board=here, __pinch_home=str(tmp_path))
        (tmp_path / name).write_text(text, "utf-8")
    done = subprocess.run([analyze, "verify", *map(str, tmp_path.iterdir())], capture_output=True, text=True)
    assert "Unknown" not in done.stderr


def test_systemd_rates_the_sandbox_below_two(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this controller; the boards are asked too")
    unit = tmp_path / "pinch.service"
    unit.write_text(render("pinch.service.j2"), "utf-8")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True, check=True
    )
    found = re.search(r"Overall exposure level for pinch\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < 2.0


def test_what_the_unit_sets_is_refused_as_a_setting() -> None:
    assert "PINCH_STATE_WAIT_S=" in render("pinch.service.j2")
    assert any("the unit sets it, for upgrades" in problem for problem in settings_problems({"state_wait_s": 5}))
