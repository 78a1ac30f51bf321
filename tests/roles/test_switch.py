"""A board changes over from one release to another, and back where the new one is not healthy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.roles.sources import load

generations = load("pinch/module_utils/pinch_generations.py")
switching = load("pinch/module_utils/pinch_switch.py")
boards = load("pinch/module_utils/pinch_board.py")

SETTINGS = "/etc/pinch/pinch.toml"
UNIT = "/etc/systemd/system/pinch.service"
DEPLOYMENT = "/etc/pinch/deployment.env"
EXTRA = "/etc/systemd/system/pinch-extra.service"


def files(deployment: str, *more: str) -> dict[str, str]:
    """Return settings and units of a release."""
    unit = "[Service]\nEnvironmentFile=/etc/pinch/deployment.env\n"
    marked = {SETTINGS: f"# {deployment}\n", DEPLOYMENT: f"# ours\nDEPLOYMENT={deployment}\n", UNIT: unit}
    return marked | dict.fromkeys(more, "[Service]\n")


class SeemingService:
    """Answers as a release does that is whole, never gets ready, or cannot be talked with."""

    def __init__(self, health: str) -> None:
        self.health = health

    def not_ready(self) -> str:
        return "/readyz answers 503" if self.health in {"never ready", "asleep", "ends"} else ""

    def fault(self) -> str:
        return "it answers 500 to a memory" if self.health == "answers 500" else ""


class SeemingStart:
    """A start that ends as the release's health says; one that never is ready works all the time or sleeps."""

    def __init__(self, board: SeemingBoard, health: str) -> None:
        self.board = board
        self.health = health
        self.waits_for_disk = board.slow_disk

    @property
    def succeeded(self) -> bool | None:
        return {"ends": False, "never ready": None, "asleep": None}.get(self.health, True)

    @property
    def worked_us(self) -> int | None:
        if self.board.slice_unknown:
            return None
        return 0 if self.health == "asleep" else round(self.board.now * 1e6)

    def leave(self) -> None:
        return


class SeemingBoard:
    """A board without systemd: each release is as healthy as `health` says; time passes where somebody waits."""

    def __init__(self, home: Path, health: Mapping[str, str]) -> None:
        self.home = home
        self.health = health
        self.installed: dict[str, str] = {}
        self.link = self.release = self.deployment = self.shown_model = ""
        self.starts = 0
        self.now = 0.0
        self.killed: list[str] = []
        self.slow_disk = self.slice_unknown = self.enabled = False
        self.wrong: Mapping[str, Mapping[str, str]] = {}

    def running(self) -> Any:
        health = self.health.get(self.release, "whole")
        up = bool(self.starts) and health != "ends"
        return boards.Running(
            loaded=True, enabled=self.enabled, active=up, ended=bool(self.starts) and not up, begun=bool(self.starts),
            release=self.release, deployment=self.deployment, memory_max=0,
        )  # fmt: skip

    def linked(self) -> str:
        return self.link

    def model(self) -> str:
        return self.shown_model

    def launched(self) -> bool:
        return bool(self.link)

    def texts(self, paths: Iterable[str]) -> dict[str, str]:
        return {name: text for name, text in self.installed.items() if name in set(paths)}

    def differing(self, wanted: Mapping[str, str]) -> list[str]:
        return [name for name, text in wanted.items() if self.installed.get(name) != text]

    def install(self, release: str, wanted: Mapping[str, str], drop: set[str], model: str) -> None:
        self.installed = {name: text for name, text in (self.installed | dict(wanted)).items() if name not in drop}
        self.link, self.shown_model = release, model

    def kill(self) -> None:
        self.killed.append(self.release)

    def refresh(self, wanted: Iterable[str]) -> None:
        return

    def enable(self) -> None:
        self.enabled = True

    def restart(self) -> SeemingStart:
        self.starts += 1
        self.release = self.link
        self.deployment = generations.Generation("", self.installed, "").deployment
        return SeemingStart(self, self.health.get(self.release, "whole"))

    def service(self, settings: str) -> SeemingService:
        return SeemingService(self.health.get(self.release, "whole"))

    def failing_checks(self) -> Mapping[str, str]:
        return self.wrong.get(self.release, {})

    def words(self, until: float | None = None) -> str:
        return f"ImportError, said before {until}"

    def pause(self, seconds: float) -> None:
        self.now += seconds


def a_board(home: Path, **health: str) -> tuple[SeemingBoard, Any, Any]:
    """Return a board on which the releases a, b and c are unpacked, its generations and its switch."""
    for name in ("a", "b", "c"):
        (home / "releases" / name).mkdir(parents=True)
        (home / "releases" / name / "release.json").write_text("{}", "utf-8")
    board = SeemingBoard(home, health)
    kept = generations.Generations(home)
    return board, kept, switching.Switch(board, kept, lambda: board.now, board.pause, lambda: 1000 + board.now)


def generation(release: str, deployment: str = "", *more: str, model: str = "") -> Any:
    return generations.Generation(release, files(deployment or f"{release}1", *more), model)


WISHES = switching.Wishes(6.0)
THOROUGH = switching.Wishes(6.0, thorough=True)


def test_an_upgrade_leads_to_the_new_release_and_a_rollback_to_the_one_before(tmp_path: Path) -> None:
    board, kept, switch = a_board(tmp_path)
    switch.change(generation("a", model="m1"), WISHES)
    assert switch.change(generation("b", model="m2"), THOROUGH).before == "a"
    assert switch.settled(generation("b"))
    back = kept.target("", board.linked())
    assert (back.release, back.model) == ("a", "m1")
    switch.change(back, THOROUGH._replace(back=True))
    assert (board.link, board.installed, board.shown_model) == ("a", files("a1"), "m1")
    with pytest.raises(generations.GenerationError, match="no release before a on this board: it can go back to b"):
        kept.target("", board.linked())


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ("ends", "it ended at its start"),
        ("never ready", "it was not ready within 6 s"),
        ("asleep", "it has done nothing for 3 s and is not ready"),
        ("answers 500", "it answers 500 to a memory"),
    ],
)
def test_a_release_that_is_not_healthy_gives_way_to_the_one_before(tmp_path: Path, health: str, said: str) -> None:
    board, kept, switch = a_board(tmp_path, b=health)
    switch.change(generation("a", model="m1"), WISHES)
    with pytest.raises(switching.SwitchError, match=said) as failed:
        switch.change(generation("b", "b1", EXTRA, model="m2"), THOROUGH)
    assert f"Its last words: ImportError, said before {1000 + board.now}." in str(failed.value)
    assert "Rolled back: a runs again" in str(failed.value)
    assert (board.link, board.release, board.installed, board.shown_model) == ("a", "a", files("a1"), "m1")
    assert board.killed == ([] if health == "ends" else ["b"]), "a release that hangs would be given 15 s to end"
    assert board.now < 15
    assert kept.proven().release == "a"
    assert kept.find("b") is None


@pytest.mark.parametrize("why", ["slow_disk", "slice_unknown"])
def test_a_start_that_waits_for_a_slow_card_or_cannot_be_watched_is_not_taken_for_one_that_hangs(
    tmp_path: Path, why: str
) -> None:
    board, _, switch = a_board(tmp_path, b="asleep")
    switch.change(generation("a"), WISHES)
    setattr(board, why, True)
    with pytest.raises(switching.SwitchError, match="it was not ready within 6 s"):
        switch.change(generation("b"), THOROUGH)


def test_a_generation_of_before_that_has_its_deployment_in_the_unit_is_told_apart_too() -> None:
    text = "[Service]\nEnvironment=DEPLOYMENT=abc\n"
    assert generations.Generation("a", {UNIT: text}, "").deployment == "abc"


def test_settings_that_do_not_start_are_taken_back_too(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.health = {"a": "ends"}
    with pytest.raises(switching.SwitchError, match="did not help either: it ended at its start"):
        switch.change(generation("a", "a2"), WISHES)
    assert board.installed == files("a1")


def test_the_first_release_of_a_board_stays_where_it_fails(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path, a="ends")
    with pytest.raises(switching.SwitchError, match="There is nothing to go back to"):
        switch.change(generation("a"), WISHES)
    assert board.link == "a"


def test_a_board_from_before_generations_were_kept_can_go_back(tmp_path: Path) -> None:
    board, kept, switch = a_board(tmp_path, b="ends")
    board.install("a", files("a1"), set(), "m1")
    board.restart()
    with pytest.raises(switching.SwitchError, match="Rolled back: a runs again"):
        switch.change(generation("b"), WISHES)
    assert board.link == "a"
    assert kept.proven() == generation("a", model="m1")


def test_a_run_that_was_cut_between_files_and_restart_is_finished_by_the_next(tmp_path: Path) -> None:
    board, kept, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.install("b", files("b1"), set(), "")
    assert not switch.settled(generation("b"))
    assert switch.change(generation("b"), WISHES).before == "a"
    assert kept.find("b").before == "a"
    assert switch.settled(generation("b"))


def test_what_doctor_found_before_is_not_held_against_a_release(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.wrong = {"a": {"clock": "1970"}, "b": {"clock": "1970"}, "c": {"clock": "1970", "model": "missing"}}
    switch.change(generation("b"), THOROUGH)
    with pytest.raises(switching.SwitchError, match="pinch doctor fails model: missing"):
        switch.change(generation("c"), THOROUGH)
    assert board.link == "b"


def test_a_release_that_runs_with_another_deployment_is_not_taken_for_the_wanted_one(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.deployment = "drop-in"
    assert not switch.settled(generation("a"))


def test_generations_whose_release_is_gone_are_forgotten(tmp_path: Path) -> None:
    _, kept, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    switch.change(generation("b"), WISHES)
    (tmp_path / "releases" / "a" / "release.json").unlink()
    with pytest.raises(generations.GenerationError, match="cannot go back to release 'a': it knows no other"):
        kept.target("a", "b")
    switch.change(generation("c"), WISHES)
    assert kept.known() == ["b", "c"]
    assert sorted(file.name for file in (tmp_path / "generations").glob("*.json")) == ["b.json", "c.json"]


def test_a_damaged_generation_is_none(tmp_path: Path) -> None:
    _, kept, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    (tmp_path / "generations" / "a.json").write_text(json.dumps({"release": "a"}), "utf-8")
    assert kept.find("a") is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["whole", "ends", "never ready"])), max_size=8))
def test_whatever_is_tried_a_board_that_was_healthy_once_stays_healthy(tries: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        board, kept, switch = a_board(Path(folder))
        switch.change(generation("a"), WISHES)
        for number, (release, health) in enumerate(tries):
            good = kept.proven().release
            if release == good:
                continue
            board.health = {release: health}
            try:
                switch.change(generation(release, f"{release}{number}"), WISHES)
            except switching.SwitchError:
                assert board.link == good
            board.health = {}
            assert board.release == board.link == kept.proven().release
            assert switch.settled(kept.proven())
