"""The service on the packages that Debian trixie brings, as 32-bit boards run it: older ones than the lock files'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.cache import REPOSITORY
from tests.distribution.trees import debian
from tests.report import Figures

TABLE = yaml.safe_load((REPOSITORY / "roles/preflight/vars/main.yml").read_text("utf-8"))
PACKAGES: list[str] = TABLE["__preflight_packages"]["distribution"]
TESTING = [
    "openssl", "procps", "python3", "python3-cryptography", "python3-hypothesis", "python3-jsonschema",
    "python3-psutil", "python3-pytest", "python3-pytest-asyncio", "python3-pytest-xdist", "python3-yaml", "systemd",
]  # fmt: skip
FOREIGN = ("web", "test_chat_completions.py", "test_conformance.py", "test_embeddings.py")
"""Tests whose clients Debian does not have: a browser's driver, OpenAI's, a fuzzer's."""


def test_the_services_own_tests_pass_on_debians_packages(tmp_path: Path, figures: Figures) -> None:
    tree = debian("amd64", [*PACKAGES, *TESTING], tmp_path / "tree")
    command = ["/usr/bin/python3", "-B", "-m", "pytest", "service/tests", "-q", "-p", "no:cacheprovider", "-n", "2"]
    command += [f"--ignore=service/tests/{name}" for name in FOREIGN]
    command += ["--deselect=service/tests/test_openapi.py::test_schemathesis_finds_no_fault"]
    done = tree.run(
        ["sh", "-c", 'cd "$0" && exec "$@"', str(REPOSITORY), *command],
        PYTHONPATH=str(REPOSITORY / "service" / "src"),
        PINCH_CACHE="/tmp/cache",
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"([0-9]+) passed", done.stdout)
    assert passed is not None
    figures.add("tests of the service that pass on Debian trixie's packages", int(passed[1]))
    assert int(passed[1]) > 1500, "they were really run"


@pytest.mark.parametrize("tool", ["gcc", "cc", "pip", "pip3"])
def test_no_compiler_and_no_pip_is_among_what_a_board_gets(tmp_path: Path, tool: str) -> None:
    tree = debian("amd64", [*PACKAGES, *TESTING], tmp_path / "tree")
    assert tree.run(["sh", "-c", f"command -v {tool}"]).returncode != 0
