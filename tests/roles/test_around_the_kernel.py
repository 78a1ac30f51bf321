"""The roles around the kernel as Ansible runs them: what they share travels along, and check mode works anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.roles.sources import REPOSITORY, ROLES

PLAN = {
    "tier": "light",
    "swap": {"mechanism": "zram"},
    "sysctl_sets": ["light"],
    "budget_mb": {"journal": 16, "tmpfs": 64},
}
"""What preflight exports, as far as these roles read it."""


def play(folder: Path, roles: list[str], **variables: object) -> subprocess.CompletedProcess[str]:
    """Run `roles` on this machine in check mode, in which their modules only read."""
    book = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": roles}]
    (folder / "play.json").write_text(json.dumps(book), "utf-8")
    given = {
        "preflight_plan": PLAN,
        "preflight_board": {"swap": {"areas": []}},
        "ansible_python_interpreter": sys.executable,
        **variables,
    }
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "--inventory",
        "localhost,",
        "--check",
        "--diff",
    ]
    command += ["--skip-tags", "preflight", "--extra-vars", json.dumps(given), str(folder / "play.json")]
    # No home of a user, whose settings would count too.
    environment = {
        "ANSIBLE_ROLES_PATH": str(ROLES),
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_kernel_values_are_read_from_a_kernel_in_check_mode_and_shown_with_their_reasons(tmp_path: Path) -> None:
    done = play(tmp_path, ["sysctl", "readahead"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+vm.swappiness = 150" in done.stdout
    assert "+# Sets: zram, light" in done.stdout
    assert not Path("/etc/sysctl.d/90-pinch.conf").exists()


@pytest.mark.parametrize(
    ("role", "variables", "said"),
    [
        ("sysctl", {"sysctl_values": {"vm.swapiness": 1}}, "has no vm.swapiness; did you mean vm.swappiness?"),
        ("sysctl", {"sysctl_sets": ["zrm"]}, "there is no set zrm"),
        ("journald", {"journald_runtime_max_mb": 64}, "expected 1 to 16 MB of"),
        ("tmp", {"tmp_size_mb": 65}, "tmp_size_mb is 65; expected 1 to 64 MB"),
    ],
)
def test_bad_input_stops_with_a_sentence(tmp_path: Path, role: str, variables: dict[str, object], said: str) -> None:
    done = play(tmp_path, [role], **variables)
    assert done.returncode == 2
    assert said in " ".join(done.stdout.split()), done.stdout + done.stderr
