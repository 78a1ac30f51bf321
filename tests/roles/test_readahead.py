"""How much is read ahead of the card: set where the root is on one, and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.roles.sources import load

module = load("readahead/library/disk_readahead.py")

RULE = "etc/udev/rules.d/90-pinch-readahead.rules"
PAGE = 4096


def a_board(root: Path, *, disk: str = "mmcblk0", part: str = "p2", kb: int = 128) -> Path:
    """Make a tree whose root file system is on a part of `disk`, or on all of it."""
    folder = root / "sys/devices/platform" / disk
    (folder / "queue").mkdir(parents=True)
    (folder / "queue/read_ahead_kb").write_text(f"{kb}\n", "utf-8")
    node = folder / f"{disk}{part}" if part else folder
    node.mkdir(exist_ok=True)
    if part:
        (node / "partition").write_text("2\n", "utf-8")
    for link, target in (("sys/dev/block/179:2", node), (f"sys/block/{disk}", folder)):
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(
        f"1 0 0:2 / / rw - rootfs rootfs rw\n22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/{disk}{part} rw\n"
        "24 22 179:1 / /boot/firmware rw - vfat /dev/mmcblk0p1 rw\n",
        "utf-8",
    )
    return root


def live(root: Path, disk: str = "mmcblk0") -> str:
    """Return what the tree's kernel reads ahead, KiB."""
    return (root / "sys/block" / disk / "queue/read_ahead_kb").read_text("utf-8").strip()


def settle(root: Path, kb: int | None, page: int = PAGE, *, dry: bool = False) -> dict[str, Any]:
    """Run the module's work."""
    answer: dict[str, Any] = module.settle(root, kb, page, dry=dry)
    return answer


@pytest.mark.parametrize(("disk", "part"), [("mmcblk0", "p2"), ("mmcblk1", "p2"), ("vda", "2"), ("vda", "")])
def test_the_card_that_holds_the_root_is_read_ahead_less_at_once_and_after_a_boot(
    tmp_path: Path, disk: str, part: str
) -> None:
    root = a_board(tmp_path, disk=disk, part=part)
    answer = settle(root, 32)
    assert (answer["changed"], answer["disk"], answer["applies"]) == (True, disk, True)
    assert live(root, disk) == "32"
    assert f'KERNEL=="{disk}", ATTR{{queue/read_ahead_kb}}="32"\n' in (root / RULE).read_text("utf-8")
    assert not settle(root, 32)["changed"]


@pytest.mark.parametrize(("disk", "part"), [("nvme0n1", "p2"), ("sda", "2"), ("dm-0", "")])
def test_a_disk_that_is_no_card_is_left_alone(tmp_path: Path, disk: str, part: str) -> None:
    root = a_board(tmp_path, disk=disk, part=part)
    answer = settle(root, 32)
    assert (answer["changed"], answer["disk"], answer["applies"]) == (False, disk, False)
    assert live(root, disk) == "128"


def test_a_root_without_a_disk_is_left_alone(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    (root / "proc/self/mountinfo").write_text("22 1 0:31 / / rw - overlay overlayroot rw\n", "utf-8")
    assert settle(root, 32) == {"changed": False, "disk": "", "applies": False, "diff": []}


@pytest.mark.parametrize(("kb", "page", "kept"), [(32, 4096, "32"), (40, 16384, "32"), (16, 16384, "16")])
def test_what_is_asked_for_is_whole_pages(tmp_path: Path, kb: int, page: int, kept: str) -> None:
    root = a_board(tmp_path)
    settle(root, kb, page)
    assert live(root) == kept
    assert not settle(root, kb, page)["changed"]


def test_less_than_a_page_is_refused(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    with pytest.raises(module.KernelValueError, match="8 KiB to read ahead is less than a page"):
        settle(root, 8, 16384)
    assert (live(root), (root / RULE).exists()) == ("128", False)


def test_what_was_found_is_put_back_also_after_a_change_of_mind(tmp_path: Path) -> None:
    root = a_board(tmp_path, kb=256)
    settle(root, 32)
    settle(root, 16)
    assert settle(root, None)["changed"]
    assert live(root) == "256"
    assert not (root / RULE).exists()
    assert not settle(root, None)["changed"]


def test_check_mode_touches_nothing(tmp_path: Path) -> None:
    root = a_board(tmp_path)
    assert settle(root, 32, dry=True)["changed"]
    assert (live(root), (root / RULE).exists()) == ("128", False)


def test_a_card_that_moved_to_another_disk_name_takes_its_rule_along(tmp_path: Path) -> None:
    first = a_board(tmp_path / "first")
    settle(first, 32)
    second = a_board(tmp_path / "second", disk="vda", part="2")
    for name in (RULE, "var/lib/pinch-found/readahead.json"):
        (second / name).parent.mkdir(parents=True)
        (second / name).write_bytes((first / name).read_bytes())
    assert settle(second, 32)["changed"]
    assert 'KERNEL=="vda"' in (second / RULE).read_text("utf-8")
    assert not settle(second, 32)["changed"]
    settle(second, None)
    assert live(second, "vda") == "128"
