"""A board changes over from one release to another, and back where the new one is not healthy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.roles.sources import load
from tests.roles.switch_board import PowerCut, SeemingBoard, generations

switching = load("pinch/module_utils/pinch_switch.py")
turns = load("pinch/module_utils/pinch_turn.py")
judging = load("pinch/module_utils/pinch_judge.py")

SETTINGS = "/etc/pinch/pinch.toml"
UNIT = "/etc/systemd/system/pinch.service"
DEPLOYMENT = "/etc/pinch/deployment.env"
EXTRA = "/etc/systemd/system/pinch-extra.service"


def files(deployment: str, *more: str) -> dict[str, str]:
    """Return settings and units of a release."""
    unit = "[Service]\nEnvironmentFile=/etc/pinch/deployment.env\nEnvironment=PINCH_STATE_WAIT_S=180\n"
    marked = {SETTINGS: f"# {deployment}\n", DEPLOYMENT: f"# ours\nDEPLOYMENT={deployment}\n", UNIT: unit}
    return marked | dict.fromkeys(more, "[Service]\n")


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


WISHES = judging.Wishes(6.0)
THOROUGH = judging.Wishes(6.0, thorough=True)


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
    ("health", "said", "silent_s"),
    [
        ("ends with the store", "it ended at its start", 0.2),
        ("never ready", "it was not ready within 6 s", 6.2),
        ("asleep", "it has done nothing for 3 s and is not ready", 3.4),
        ("answers 500", "it answers 500 to a memory", 0),
    ],
)
def test_a_release_that_is_not_healthy_gives_the_store_back(
    tmp_path: Path, health: str, said: str, silent_s: float
) -> None:
    board, kept, switch = a_board(tmp_path, b=health)
    switch.change(generation("a", model="m1"), WISHES)
    with pytest.raises(switching.SwitchError, match=said) as failed:
        switch.change(generation("b", "b1", EXTRA, model="m2"), THOROUGH)
    assert f"Its last words: ImportError, said before {1000 + board.now}." in str(failed.value)
    assert "Rolled back: a runs again" in str(failed.value)
    assert (board.link, board.release, board.installed, board.shown_model) == ("a", "a", files("a1"), "m1")
    assert board.killed == ["b"], "a release that hangs would be given 15 s to end"
    assert board.silent_s <= silent_s
    assert board.beside is None
    assert kept.proven().release == "a"
    assert kept.find("b") is None


def test_a_release_that_does_not_come_to_its_store_costs_no_answer(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path, b="ends")
    switch.change(generation("a"), WISHES)
    with pytest.raises(switching.SwitchError, match="it ended at its start") as failed:
        switch.change(generation("b"), THOROUGH)
    assert "Nothing was changed, and a went on all the time" in str(failed.value)
    assert (board.link, board.release, board.silent_s) == ("a", "a", 0)


def test_a_release_that_ends_only_where_it_is_to_stay_is_taken_back_behind_its_successor(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path, **{"b in its place": "ends"})
    switch.change(generation("a", model="m1"), WISHES)
    with pytest.raises(switching.SwitchError, match="it ended at its start where it is to stay") as failed:
        switch.change(generation("b", "b1", EXTRA, model="m2"), THOROUGH)
    assert "Rolled back: a runs again" in str(failed.value)
    assert (board.link, board.release, board.installed, board.shown_model) == ("a", "a", files("a1"), "m1")
    assert board.silent_s == 0


def test_a_release_that_hangs_only_where_it_is_to_stay_is_rolled_back(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path, **{"b in its place": "asleep"})
    switch.change(generation("a"), WISHES)
    with pytest.raises(switching.SwitchError, match="it has done nothing for 3 s") as failed:
        switch.change(generation("b"), THOROUGH)
    assert "Rolled back: a runs again" in str(failed.value)
    assert (board.link, board.release) == ("a", "a")
    assert board.silent_s <= 3.4


def test_an_upgrade_and_a_rollback_leave_no_time_without_answers(tmp_path: Path) -> None:
    board, kept, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    switch.change(generation("b"), THOROUGH)
    switch.change(kept.target("", board.linked()), THOROUGH._replace(back=True))
    assert (board.release, board.silent_s, board.beside) == ("a", 0, None)
    assert board.successors == 2


def test_a_release_that_cannot_wait_for_the_store_is_started_in_place_of_the_other(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    old = generation("b")
    switch.change(old._replace(files=old.files | {UNIT: "[Service]\n"}), THOROUGH)
    assert (board.release, board.successors) == ("b", 0)


def test_a_successor_that_a_cut_run_left_gives_way_to_what_waits_behind_it(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.successor(generation("b")).restart()
    board.restart()
    assert board.now_running().waits, "the successor serves, and the release of before waits behind it"
    switch.tidy()
    assert switch.settled(generation("a"))
    switch.change(generation("b"), THOROUGH)
    assert (board.release, board.beside) == ("b", None)


def test_a_run_that_is_ended_takes_its_successor_back(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.power_cut = True
    with pytest.raises(PowerCut):
        switch.change(generation("b"), THOROUGH)
    assert board.beside is None
    assert board.now_running().active
    assert board.release == "a"


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
    board.known = {"a": "ends"}
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
    assert board.restart().succeeded
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
    assert (board.link, board.release, board.silent_s) == ("b", "b", 0)


def test_a_release_that_runs_with_another_deployment_is_not_taken_for_the_wanted_one(tmp_path: Path) -> None:
    board, _, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)
    board.deployment = "drop-in"
    assert not switch.settled(generation("a"))


def test_a_board_is_changed_by_one_run_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with turns.turn(lock), pytest.raises(turns.TurnError, match="another run has been changing"):
        turns.turn(lock, 0).__enter__()
    with turns.turn(lock, 0):
        pass


def test_the_way_back_is_known_before_a_release_is_in_its_place(tmp_path: Path) -> None:
    board, kept, switch = a_board(tmp_path)
    switch.change(generation("a"), WISHES)

    board.power_cut = True
    with pytest.raises(PowerCut):
        switch.change(generation("b"), WISHES)
    assert kept.find("b").before == "a"
    assert kept.proven().release == "a"


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


HEALTHS = ["whole", "ends", "ends with the store", "never ready", "asleep", "answers 500"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(HEALTHS),
            st.sampled_from(["", " in its place", " in the successor"]),
            st.sampled_from([WISHES, THOROUGH]),
        ),
        max_size=8,
    )
)
def test_whatever_is_tried_a_board_that_was_healthy_once_stays_healthy(tries: list[tuple[str, str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        board, kept, switch = a_board(Path(folder))
        switch.change(generation("a"), WISHES)
        for number, (release, health, where, wishes) in enumerate(tries):
            good = kept.proven().release
            if release == good:
                continue
            board.known = {f"{release}{where}": health}
            try:
                switch.change(generation(release, f"{release}{number}"), wishes)
            except switching.SwitchError:
                assert board.link == good
            board.known = {}
            assert board.release == board.link == kept.proven().release
            assert board.beside is None
            assert switch.settled(kept.proven())
