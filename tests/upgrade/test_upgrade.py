"""The life of boards, in order: upgraded, rolled back, backed up, restored, and left as they were found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from service.tests.serving import Service, model
from tests.lifecycle import backups
from tests.lifecycle.backups import launcher
from tests.report import Figures
from tests.roles.sources import load
from tests.upgrade import releases
from tests.upgrade.conftest import Fleet, recap
from tests.upgrade.steady import Steady

snapshots = load("pinch/library/store_snapshot.py")
MOST_DOWN_S = 15.0
"""Seconds without an answer where a release breaks with the store in its hands."""
HANDED_OVER_S = 5.0
"""Where nobody waits for a start, for which an emulated board takes longer."""
SPACE = "lifecycle"
TEXTS = [f"The {word} stands in room {number}." for number, word in enumerate(
    ["piano", "kettle", "ladder", "telescope", "sewing machine", "globe", "anvil", "harp"])]  # fmt: skip


class End(NamedTuple):
    """How an upgrade to a broken release ends."""

    said: str
    most_down_s: float
    """Seconds without an answer at most."""


def remembered(fleet: Fleet) -> None:
    """See that every board still has what it was told first."""
    for name, board in fleet.boards.items():
        with board.service() as client:
            found = {memory["text"] for memory in client.memories(SPACE)}
            assert set(TEXTS) <= found, f"{name} lost {set(TEXTS) - found}"


def test_boards_remember(fleet: Fleet) -> None:
    for board in fleet.boards.values():
        board.await_service()
        with board.service() as client:
            for text in TEXTS:
                client.remember(text, space=SPACE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (releases.RAISES, "failed its rehearsal: it ended at its start"),
        (releases.NEVER_READY, "failed its rehearsal: it was not ready within 180 s"),
        (releases.ANSWERS_500, "failed its rehearsal: it answers 500 to a memory"),
    ],
    ids=["raises", "never ready", "answers 500"],
)
def test_a_broken_release_is_refused_beside_the_one_that_serves(
    fleet: Fleet, figures: Figures, tmp_path: Path, change: releases.Change, said: str
) -> None:
    before = fleet.released()
    fleet.watch()
    played = fleet.play("upgrade.yml", pinch_service_source=str(releases.make(tmp_path / "service", change)))
    gaps = fleet.longest_gaps()
    assert played.status != 0
    assert said in played.words, recap(played)
    assert fleet.released() == before
    canary, _ = fleet.canary
    assert [name for name, host in played.recap.items() if host.changed] in ([], [canary]), recap(played)
    remembered(fleet)
    figures.add("longest time without an answer, a release refused in its rehearsal", max(gaps.values()), "s")
    assert max(gaps.values()) <= HANDED_OVER_S


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (releases.RAISES_IN_ITS_PLACE, End("Nothing was changed, and {before} went on all the time", HANDED_OVER_S)),
        (releases.RAISES_WITH_THE_STORE, End("Rolled back: {before} runs again", MOST_DOWN_S)),
        (releases.HANGS_WITH_THE_STORE, End("Rolled back: {before} runs again", MOST_DOWN_S)),
    ],
    ids=["raises at its start", "raises with the store", "hangs with the store"],
)
def test_a_release_that_breaks_only_in_its_place_stops_at_the_canary(
    fleet: Fleet, figures: Figures, tmp_path: Path, change: releases.Change, end: End
) -> None:
    before = fleet.released()
    canary, board = fleet.canary
    files = "cd /etc && cat pinch/pinch.toml pinch/deployment.env systemd/system/pinch.service"
    settings = board.run(files)
    fleet.watch()
    with Steady(board.port, board.token, SPACE) as steady:
        source = str(releases.make(tmp_path / "service", change))
        played = fleet.play("upgrade.yml", pinch_service_source=source)
    gaps = fleet.longest_gaps()
    assert played.status != 0
    assert end.said.format(before=before[canary]) in played.words, recap(played)
    assert fleet.released() == before
    assert board.run(files) == settings
    touched = [name for name, host in played.recap.items() if host.changed or host.failed]
    assert touched == [canary], recap(played)
    remembered(fleet)
    with board.service() as client:
        found = {memory["text"] for memory in client.memories(SPACE)}
    assert set(steady.acknowledged) <= found
    figures.add("longest time without an answer at the canary", gaps[canary], "s", f"≤ {end.most_down_s:.0f} s")
    figures.add("memories acknowledged during that upgrade, all there", len(steady.acknowledged))
    assert gaps[canary] <= end.most_down_s


def test_a_good_release_reaches_every_board_and_again_changes_nothing(
    fleet: Fleet, figures: Figures, tmp_path: Path
) -> None:
    before = fleet.released()
    source = str(releases.make(tmp_path / "service", releases.HARMLESS))
    fleet.watch()
    played = fleet.play("upgrade.yml", pinch_service_source=source)
    gaps = fleet.longest_gaps()
    assert played.status == 0, recap(played)
    after = fleet.released()
    assert all(after[name] != before[name] for name in before)
    remembered(fleet)
    figures.add("longest time without an answer, a good upgrade", max(gaps.values()), "s", f"≤ {HANDED_OVER_S:.0f} s")
    assert max(gaps.values()) <= HANDED_OVER_S
    again = fleet.play("upgrade.yml", pinch_service_source=source)
    assert (again.status, again.changed) == (0, 0), recap(again)


def test_a_rollback_leads_to_the_release_before_and_no_further(fleet: Fleet, figures: Figures) -> None:
    newer = fleet.released()
    fleet.watch()
    played = fleet.play("rollback.yml")
    gaps = fleet.longest_gaps()
    assert played.status == 0, recap(played)
    older = fleet.released()
    assert all(older[name] != newer[name] for name in newer)
    remembered(fleet)
    figures.add("longest time without an answer, a rollback", max(gaps.values()), "s", f"≤ {HANDED_OVER_S:.0f} s")
    assert max(gaps.values()) <= HANDED_OVER_S
    again = fleet.play("rollback.yml")
    assert again.status != 0
    canary, _ = fleet.canary
    said = f"there is no release before {older[canary]} on this board: it can go back to {newer[canary]}"
    assert said in again.words, recap(again)
    assert again.changed == 0
    wrong = fleet.play("rollback.yml", rollback_to="0.0.1-00000000")
    assert "cannot go back to release '0.0.1-00000000'" in wrong.words, recap(wrong)
    assert fleet.released() == older


def test_a_disk_too_full_for_the_snapshot_stops_the_upgrade(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.released()
    _, board = fleet.canary
    source = str(releases.make(tmp_path / "service", releases.HARMLESS))
    board.run("fallocate -l $(($(df --output=avail -B1 /var | tail -1) - 8 * 1048576)) /var/lib/ballast")
    try:
        played = fleet.play("upgrade.yml", pinch_service_source=source)
    finally:
        board.run("rm /var/lib/ballast")
    assert played.status != 0
    assert re.search(r"MB free; expected|disk", played.words), recap(played)
    assert fleet.released() == before
    remembered(fleet)


def test_a_backup_comes_back_after_everything_was_lost(
    fleet: Fleet, figures: Figures, tmp_path: Path, key: tuple[Path, str]
) -> None:
    identity, public = key
    folder = tmp_path / "backups"
    made = fleet.play("backup.yml", backup_recipients=[public], backup_archive_folder=str(folder))
    assert made.status == 0, recap(made)
    canary, board = fleet.canary
    (file,) = (folder / canary).glob("*.age")
    assert board.attempt("ls -A /var/lib/pinch-snapshots/backup").rc != 0, "plaintext was left on the board"
    figures.add("bytes of a backup of a fresh board", file.stat().st_size)
    here = {"backup_archive_folder": str(folder), "restore_identity": str(identity)}
    refused = fleet.play("restore.yml", "--limit", canary, **here)
    assert refused.status != 0
    assert "memories" in refused.words
    assert "Set restore_replace to true to replace it" in refused.words, recap(refused)
    with board.service() as client:
        for memory in client.memories(SPACE):
            client.call("DELETE", f"/v1/memories/{memory['id']}")
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    cut = fleet.play("restore.yml", "--limit", canary, **here, restore_replace=True)
    assert "it was cut or changed since it was made" in cut.words, recap(cut)
    assert cut.changed == 0
    file.write_bytes(whole)
    restored = fleet.play("restore.yml", "--limit", canary, **here, restore_replace=True)
    assert restored.status == 0, recap(restored)
    assert "were recalled by their own words, all of them found" in restored.words
    assert board.attempt("ls -A /var/lib/pinch-snapshots/restore").rc != 0, "plaintext was left on the board"
    remembered(fleet)


def test_a_small_board_takes_the_backup_of_a_full_one(fleet: Fleet, figures: Figures, tmp_path: Path) -> None:
    canary, board = fleet.canary
    assert board.tier.name == "minimal", "the boards of this scenario have no model"
    file, source = tmp_path / "store.snapshot", tmp_path / "full"
    source.mkdir()
    said = [f"{text[:-1]} of a bigger board." for text in TEXTS]
    with Service(source, PINCH_TIER="full", PINCH_MODEL_DIR=str(model("all-MiniLM-L6-v2-int8"))) as full:
        for text in said:
            full.remember(text, space=SPACE)
        full.embedded()
        snapshots.save(launcher(full), file)
    counts, schema = backups.contents.contents(file)
    assert counts["vectors"] == len(said)
    kitchen = backups.Boards(tmp_path)
    made = kitchen.back_up({"snapshot": file}, counts=counts, schema=schema, model="all-MiniLM-L6-v2")
    here = {"restore_file": made["file"], "restore_identity": str(kitchen.key), "restore_replace": True}
    restored = fleet.play("restore.yml", "--limit", canary, **here)
    assert restored.status == 0, recap(restored)
    assert "(full), to a board of the tier minimal" in restored.words
    assert f"{len(said)} of {len(said)} memories were recalled by their own words, all of them found" in restored.words
    assert f"Waiting for a bigger board: {len(said)} vectors of all-MiniLM-L6-v2" in restored.words
    with board.service() as client:
        assert {memory["text"] for memory in client.memories(SPACE)} == set(said)
        found = {client.recall(text, space=SPACE, mode="keyword")["hits"][0]["text"] for text in said}
    assert found == set(said)
    figures.add("memories of a full board recalled on a minimal one, of as many", len(found))


def test_a_reset_leaves_every_board_as_it_was_found(fleet: Fleet, tmp_path: Path, key: tuple[Path, str]) -> None:
    names = " ".join(fleet.boards)
    folder = tmp_path / "backups"
    here = {"backup_recipients": [key[1]], "backup_archive_folder": str(folder)}
    refused = fleet.play("reset.yml", reset_confirm=f"{names}x", **here)
    assert refused.status != 0
    assert f"expected exactly {', '.join(fleet.boards)}" in refused.words, recap(refused)
    for board in fleet.boards.values():
        board.run("rm -rf /var/tmp/pinch-proof")
    played = fleet.play("reset.yml", reset_confirm=names, **here)
    assert played.status == 0, recap(played)
    for name in fleet.boards:
        assert len(list((folder / name).glob("*.age"))) == 1, "no backup was made before the reset"
    for name, now in fleet.listing().items():
        found = fleet.found[name]
        differing = {path for path in found.keys() | now.keys() if found.get(path) != now.get(path)}
        assert differing == set(), {path: (found.get(path), now.get(path)) for path in sorted(differing)}
