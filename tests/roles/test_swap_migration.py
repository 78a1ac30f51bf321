"""From every swap mechanism to every other, on root trees with the vendors' files reproduced (`swap_board.py`).

The tree refuses two areas at any moment, and pulls in whatever `swap.target` wants each time a unit is started, as
systemd does; so a moment of two fails the test that caused it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pinch_swap.apply import ChangeError, StuckError, apply
from pinch_swap.layout import MECHANISMS, RECORD
from pinch_swap.plan import Plan, plan_change, settled
from pinch_swap.problems import swap_refusals
from pinch_swap.state import read_state
from pinch_swap.wanted import Wish, swap_file_of

from tests.roles.swap_board import TOOLS, KilledError, TreeBoard

PAIRS = list(itertools.product(MECHANISMS, MECHANISMS))
GIVE_BACK = Wish("none", ours=False)


def wish_for(mechanism: str, size_mb: int = 24) -> Wish:
    """What the role asks for."""
    return Wish(
        mechanism,
        0 if mechanism == "none" else size_mb,
        size_mb // 2 if mechanism in {"zram", "zswap", "rpi-swap"} else 0,
        "/var/swap.pinch" if mechanism in {"file", "zswap"} else "",
    )


def converge(board: TreeBoard, wish: Wish) -> Plan:
    """Do on the tree what the module does on a board in one run."""
    path = swap_file_of(wish.mechanism, wish.file, board.root)
    state = read_state(board.root, path)
    assert list(swap_refusals(state, wish)) == []
    plan = plan_change(state, wish, board.root)
    if not plan.nothing:
        apply(plan, board.root, board.run)
        rest = plan_change(read_state(board.root, path), wish, board.root)
        if rest.forget:
            apply(rest, board.root, board.run)
    return plan


def reach(board: TreeBoard, wish: Wish) -> None:
    """Run until the board swaps as wished, with a reboot where the change waits for one."""
    plan = converge(board, wish)
    if plan.waits:
        before = board.areas
        board.someone_starts_a_service()
        assert board.areas == before, "something changed while the board waits for its reboot"
        board.boot()
        plan = converge(board, wish)
    assert not plan.waits
    assert_reached(board, wish)


def assert_reached(board: TreeBoard, wish: Wish) -> None:
    """Compare what the tools made with the wish, and see that nothing is left to do, now and after a boot."""
    path = swap_file_of(wish.mechanism, wish.file, board.root)
    for moment in ("now", "after a boot"):
        assert board.mechanism == wish.mechanism, moment
        assert list(board.areas.values()) == ([wish.size_mb] if wish.mechanism != "none" else [])
        assert board.zswap == (wish.mechanism == "zswap")
        if wish.mechanism in {"zram", "rpi-swap"}:
            assert board.zram_limit_mb == wish.limit_mb
        state = read_state(board.root, path)
        assert settled(state, wish)
        assert plan_change(state, wish, board.root).nothing, moment
        board.boot()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for boards, in RAM where there is such a place: each run syncs its files to what is below."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def board_swapping_by(mechanism: str, root: Path) -> TreeBoard:
    """A board with all tools, of which its owner lets one swap; our own mechanisms are reached by the role."""
    board = TreeBoard(root, TOOLS)
    if mechanism != "rpi-swap":
        board.write("etc/rpi/swap.conf.d/10-owner.conf", "[Main]\nMechanism=none\n\n[File]\nPath=/var/none\n")
    if mechanism == "zram":
        board.write(
            "etc/systemd/zram-generator.conf.d/30-owner.conf", "[zram0]\nhost-memory-limit=none\nfs-type=swap\n"
        )
    if mechanism != "dphys":
        (board.root / "etc/systemd/system/multi-user.target.wants/dphys-swapfile.service").unlink()
    board.boot()
    if mechanism in {"file", "zswap"}:
        reach(board, wish_for(mechanism, 20))
    assert board.mechanism == mechanism
    return board


def without_ours(root: Path) -> dict[str, str]:
    """The files and links of the tree's configuration."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text("utf-8")
        for folder in ("etc", "usr", "lib", "sbin")
        for path in (root / folder).rglob("*")
        if path.is_file() or path.is_symlink()
    }


@pytest.mark.parametrize(("start", "wanted"), PAIRS)
def test_every_mechanism_is_reached_from_every_other_and_never_two(folder: Path, start: str, wanted: str) -> None:
    board = board_swapping_by(start, folder / "board")
    reach(board, wish_for(wanted))


@pytest.mark.parametrize(("start", "wanted"), PAIRS)
def test_what_does_not_fit_into_memory_waits_for_the_next_boot(folder: Path, start: str, wanted: str) -> None:
    board = board_swapping_by(start, folder / "board")
    board.fill(16)
    board.write("proc/meminfo", "MemTotal: 440320 kB\nMemAvailable: 20480 kB\n")
    before = board.areas
    board.commands.clear()
    plan = converge(board, wish_for(wanted))
    assert bool(plan.waits) == (start != "none" or wanted == "rpi-swap")
    if plan.waits:
        assert board.areas == before
        assert [command[0] for command in board.commands if command[0] != "mkswap"] == []
        again = converge(board, wish_for(wanted))
        assert again.nothing, "the second run changes something"
        assert again.waits
        board.boot()
    reach(board, wish_for(wanted))


@pytest.mark.parametrize(("start", "wanted"), PAIRS)
@pytest.mark.parametrize("rebooted", [False, True])
def test_a_run_that_dies_anywhere_is_repaired_by_the_next(
    folder: Path, start: str, wanted: str, *, rebooted: bool
) -> None:
    for dies_at in itertools.count():
        board = board_swapping_by(start, folder / f"board{dies_at}")
        board.commands.clear()
        board.dies_at = dies_at
        try:
            converge(board, wish_for(wanted))
        except KilledError:
            finished = False
        else:
            finished = True
        board.dies_at = None
        if rebooted:
            board.boot()
        board.someone_starts_a_service()
        reach(board, wish_for(wanted))
        shutil.rmtree(board.root)
        if finished:
            return


@pytest.mark.parametrize(("start", "wanted"), [pair for pair in PAIRS if pair[0] != pair[1]])
def test_a_run_that_dies_between_two_files_is_repaired_by_the_next(folder: Path, start: str, wanted: str) -> None:
    wish = wish_for(wanted)
    for placed in itertools.count():
        board = board_swapping_by(start, folder / f"board{placed}")
        path = swap_file_of(wish.mechanism, wish.file, board.root)
        plan = plan_change(read_state(board.root, path), wish, board.root)
        board.commands.clear()
        board.dies_at = len(plan.stop[:1]) + (plan.make is not None)
        some = dict(itertools.islice(plan.files.items(), placed))
        with contextlib.suppress(KilledError):
            apply(plan._replace(files=some), board.root, board.run)
        board.dies_at = None
        reach(board, wish)
        shutil.rmtree(board.root)
        if placed >= len(plan.files):
            return


@pytest.mark.parametrize("found", ["zram", "rpi-swap", "dphys", "none"])
@pytest.mark.parametrize("wanted", MECHANISMS)
def test_a_board_is_given_back_as_it_was_found(folder: Path, found: str, wanted: str) -> None:
    board = board_swapping_by(found, folder / "board")
    before, areas = without_ours(board.root), board.areas
    reach(board, wish_for(wanted))
    plan = converge(board, GIVE_BACK)
    if plan.waits:
        board.boot()
        converge(board, GIVE_BACK)
    assert without_ours(board.root) == before
    assert not (board.root / RECORD).exists()
    assert board.areas == areas
    assert not (board.root / "var/swap.pinch").exists()
    assert converge(board, GIVE_BACK).nothing
    board.boot()
    assert board.areas == areas


def test_a_board_that_was_never_changed_is_given_back_without_a_change(folder: Path) -> None:
    board = board_swapping_by("dphys", folder / "board")
    assert converge(board, GIVE_BACK).nothing
    assert board.mechanism == "dphys"


def test_files_of_others_are_left_alone(folder: Path) -> None:
    board = board_swapping_by("dphys", folder / "board")
    theirs = {
        "etc/systemd/zram-generator.conf.d/60-note.conf": "# nothing\n",
        "etc/rpi/swap.conf.d/20-note.conf": "# nothing\n",
        "var/swap.photos": "no swap at all",
    }
    for path, text in theirs.items():
        board.write(path, text)
    for wanted in ("zram", "file", "rpi-swap", "none"):
        reach(board, wish_for(wanted))
    assert {path: (board.root / path).read_text("utf-8") for path in theirs} == theirs
    assert "CONF_SWAPSIZE=20" in (board.root / "etc/dphys-swapfile").read_text("utf-8")


def test_a_swap_file_for_another_page_size_is_made_anew(folder: Path) -> None:
    board = board_swapping_by("file", folder / "board")
    file = board.root / "var/swap.pinch"
    board.swap_off("/var/swap.pinch")
    content = bytearray(file.read_bytes())
    content[4086:4096], content[16374:16384] = b"\0" * 10, b"SWAPSPACE2"
    file.write_bytes(content)
    assert converge(board, wish_for("file", 20)).make == ("/var/swap.pinch", 20 * 1024 * 1024)
    assert_reached(board, wish_for("file", 20))


def test_a_limit_alone_is_changed_while_the_board_swaps(folder: Path) -> None:
    board = board_swapping_by("none", folder / "board")
    reach(board, wish_for("zram"))
    board.fill(20)
    board.write("proc/meminfo", "MemTotal: 440320 kB\nMemAvailable: 20480 kB\n")
    plan = converge(board, wish_for("zram")._replace(limit_mb=6))
    assert (plan.waits, plan.leave, plan.kernel) == ("", (), (("sys/block/zram0/mem_limit", "6M"),))
    assert (board.root / "sys/block/zram0/mem_limit").read_text("ascii") == "6M"


def test_a_zram_that_udev_still_read_when_it_was_left_is_set_up_again(folder: Path) -> None:
    board = board_swapping_by("none", folder / "board")
    converge(board, wish_for("zram"))
    board.busy_resets = 2
    converge(board, wish_for("file"))
    assert (board.root / "sys/block/zram0/disksize").read_text("ascii") == "1", "it could not be reset"
    reach(board, wish_for("zram"))
    assert board.busy_resets == 0


def test_a_zram_that_somebody_else_uses_is_named_and_not_swapped_to(folder: Path) -> None:
    board = board_swapping_by("none", folder / "board")
    board.write("sys/block/zram0/disksize", "4096")
    board.busy_resets = 1000
    with pytest.raises(ChangeError, match=r"/dev/zram0 is in use, and not for swap \(.*busy\); see `lsblk`"):
        converge(board, wish_for("zram"))
    assert board.areas == {}


def test_another_path_leaves_no_old_file_behind(folder: Path) -> None:
    board = board_swapping_by("file", folder / "board")
    (board.root / "srv").mkdir()
    wish = wish_for("file")._replace(file="/srv/other-swap")
    reach(board, wish)
    assert not (board.root / "var/swap.pinch").exists()
    assert [path.name for path in (board.root / "etc/systemd/system/swap.target.wants").iterdir()] == [
        "srv-other\\x2dswap.swap"
    ]


def test_an_area_that_cannot_be_left_changes_nothing_else(folder: Path) -> None:
    board = board_swapping_by("zram", folder / "board")
    board.stuck.add("/dev/zram0")
    before = without_ours(board.root)
    with pytest.raises(StuckError, match="Cannot allocate memory"):
        converge(board, wish_for("none"))
    assert without_ours(board.root) == before


def test_a_unit_whose_limit_is_too_low_for_its_swap_is_not_squeezed(folder: Path) -> None:
    """Without its swap the kernel would have to kill in that unit, however much memory the board has."""
    board = board_swapping_by("zram", folder / "board")
    board.fill(10)
    unit = "sys/fs/cgroup/system.slice/pinch.service"
    for name, value in {
        "memory.swap.current": 10 << 20,
        "memory.max": 50 << 20,
        "memory.stat": f"anon {40 << 20}\nfile {30 << 20}\nkernel {2 << 20}",
    }.items():
        board.write(f"{unit}/{name}", f"{value}\n")
    assert "pinch.service would be over the memory limit" in converge(board, wish_for("none")).waits
    board.write(f"{unit}/memory.stat", f"anon {30 << 20}\nfile {30 << 20}\nkernel {2 << 20}\n")
    assert converge(board, wish_for("none")).waits == ""
    assert board.mechanism == "none"


def test_a_switched_off_rpi_swap_does_not_remove_the_file_of_the_next(folder: Path) -> None:
    """Without a mechanism rpi-swap removes its file at each boot, and dphys-swapfile uses the same path."""
    board = TreeBoard(folder / "board", ["rpi-swap"])
    board.boot()
    board.install("dphys")
    reach(board, wish_for("dphys"))
    made = (board.root / "var/swap").stat().st_mtime_ns
    board.boot()
    assert (board.root / "var/swap").stat().st_mtime_ns == made


def test_a_tool_that_its_owner_put_out_of_reach_stays_there(folder: Path) -> None:
    board = TreeBoard(folder / "board", ["zram-generator", "dphys"])
    board.link("etc/systemd/system/dphys-swapfile.service", "/dev/null")
    board.boot()
    before = without_ours(board.root)
    for wanted in ("dphys", "file", "dphys", "none"):
        reach(board, wish_for(wanted))
    converge(board, GIVE_BACK)
    assert without_ours(board.root) == before
    assert board.mechanism == "zram"
