"""The command line: one JSON object out, 65 and one sentence where a model cannot be had."""

import io
import json
from pathlib import Path

import pytest
from model_samples import tiny_entry
from pinch_models.cli import main
from pinch_models.manifest import read_manifest


def _pins(tiny: Path) -> str:
    return json.dumps({"models": {"tiny": tiny_entry(tiny)}})


@pytest.fixture
def arguments(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(_pins(tiny)))
    return ["tiny", "--json", "--pins", "-", "--cache", str(tmp_path / "cache"), "--directory", str(tiny)]


def test_a_model_is_built_from_pins_on_standard_input(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["build", *arguments, "--source", "directory", "--out", str(out), "--archive"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["path"] == str(out)
    assert result["built"] is result["changed"] is True
    assert result["sha256"] == read_manifest(out)["sha256"]
    assert result["directory"] == f"tiny-{result['hash8']}"
    assert Path(result["archive"]).name == f"{result['directory']}.tar"
    assert main(["verify", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_dry_run_writes_nothing(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", *arguments, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out) == {"built": False, "name": "tiny"}
    assert not (tmp_path / "cache").exists()


def test_a_failure_is_one_sentence_and_status_65(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *arguments, "--source", "mirror"]) == 65
    printed = capsys.readouterr()
    assert "no source was given" in json.loads(printed.out)["error"]
    assert printed.err.count("\n") == 1
    assert main(["verify", str(tmp_path)]) == 65
    assert "holds no manifest.json" in capsys.readouterr().err


def test_the_list_says_what_is_to_be_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--cache", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("384 dimensions, window 256 tokens" in line and "91 MB to fetch" in line for line in lines)


def test_a_check_without_conversations_says_where_they_were_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--data", str(tmp_path), "--cache", str(tmp_path)]) == 65
    assert "holds no LoCoMo conversations" in capsys.readouterr().err
