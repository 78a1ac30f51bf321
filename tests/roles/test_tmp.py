"""/tmp as RAM: bounded where it is, left where it is not, and never smaller than what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.sources import load

module = load("tmp/library/tmp_size.py")

MIB = 1024 * 1024
FRAGMENT = "usr/lib/systemd/system/tmp.mount"
DROPIN = "etc/systemd/system/tmp.mount.d/90-pinch.conf"
VENDOR = "mode=1777,strictatime,nosuid,nodev,size=50%%,nr_inodes=1m"
TRIXIE = (
    "/dev/vda2 / ext4 rw 0 0\ntmpfs /run tmpfs rw,size=1 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n"
)
BOOKWORM = "/dev/vda2 / ext4 rw 0 0\ntmpfs /run tmpfs rw,size=1 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n"


class Host:
    """systemd and the kernel of a tree: a mount takes its size from the unit when it is reloaded."""

    def __init__(self, root: Path, mounts: str = TRIXIE, *, used: int = 0, fragment: str = f"/{FRAGMENT}") -> None:
        self.root = root
        self.fragment = fragment
        self.used = used
        self.size = 200 * MIB
        self.commands: list[list[str]] = []
        (root / "proc").mkdir(parents=True, exist_ok=True)
        (root / "proc/mounts").write_text(mounts, "utf-8")
        (root / FRAGMENT).parent.mkdir(parents=True, exist_ok=True)
        (root / FRAGMENT).write_text(f"[Unit]\nOptions=no\n[Mount]\nWhat=tmpfs\nOptions={VENDOR}\n", "utf-8")

    def run(self, command: Sequence[str]) -> str:
        """Answer as systemctl would."""
        self.commands.append(list(command))
        if command[1] == "show":
            return self.fragment + "\n"
        if command[1] == "reload":
            text = self.options()
            size = text.rpartition("size=")[2].partition(",")[0]
            self.size = 200 * MIB if size.endswith("%%") else int(size.removesuffix("M")) * MIB
        return ""

    def options(self) -> str:
        """Return the options that systemd would mount with."""
        file = self.root / DROPIN
        text = (file if file.exists() else self.root / FRAGMENT).read_text("utf-8")
        found: dict[str, str] = dict(module.assignments(text, "Mount"))
        return found["Options"]

    def measure(self, point: str) -> Any:
        """Return what statvfs would."""
        return module.Use(self.size, self.used) if point == "/tmp" else module.Use(50 * MIB, MIB)

    def settle(self, size_mb: int | None, *, dry: bool = False) -> dict[str, Any]:
        """Run the module's work."""
        answer: dict[str, Any] = module.settle(self.root, size_mb, self.run, self.measure, dry=dry)
        return answer


def test_a_tmp_of_half_the_memory_is_bounded_at_once_and_keeps_its_other_options(tmp_path: Path) -> None:
    host = Host(tmp_path)
    answer = host.settle(24)
    assert (answer["changed"], answer["kind"], answer["size_bytes"]) == (True, "tmpfs", 24 * MIB)
    assert host.options() == "mode=1777,strictatime,nosuid,nodev,nr_inodes=1m,size=24M"
    assert answer["others_bytes"] == 2 * MIB
    again = host.settle(24)
    assert (again["changed"], again["reboot_required"]) == (False, False)


def test_a_tmp_on_disk_is_left_alone(tmp_path: Path) -> None:
    host = Host(tmp_path, BOOKWORM)
    answer = host.settle(24)
    assert (answer["changed"], answer["kind"], answer["size_bytes"]) == (False, "disk", 0)
    assert host.commands == []
    assert not (tmp_path / DROPIN).exists()


def test_a_tmp_that_went_to_disk_since_loses_our_drop_in(tmp_path: Path) -> None:
    Host(tmp_path).settle(24)
    host = Host(tmp_path, BOOKWORM)
    assert host.settle(24)["changed"]
    assert not (tmp_path / DROPIN).exists()
    assert not host.settle(24)["changed"]


@pytest.mark.parametrize(("used_mb", "waits"), [(0, False), (21, False), (22, True), (30, True)])
def test_what_is_in_use_is_never_cut_off_but_waits_for_the_boot(tmp_path: Path, used_mb: int, waits: bool) -> None:
    host = Host(tmp_path, used=used_mb * MIB)
    answer = host.settle(24)
    assert (answer["changed"], answer["reboot_required"]) == (True, waits)
    assert (host.size == 24 * MIB) is not waits
    assert "size=24M" in host.options()
    again = host.settle(24)
    assert (again["changed"], again["reboot_required"]) == (False, waits)


def test_check_mode_says_what_would_change_and_touches_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    answer = host.settle(24, dry=True)
    assert (answer["changed"], host.size) == (True, 200 * MIB)
    assert not (tmp_path / DROPIN).exists()


def test_taking_it_back_brings_the_vendors_size_back(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.settle(24)
    assert host.settle(None)["changed"]
    assert (host.size, host.options()) == (200 * MIB, VENDOR)
    assert not host.settle(None)["changed"]


@pytest.mark.parametrize("size_mb", [24, None])
@pytest.mark.parametrize("verb", ["daemon-reload", "reload"])
def test_a_run_that_died_before_the_mount_was_changed_is_repaired_by_the_next(
    tmp_path: Path, size_mb: int | None, verb: str
) -> None:
    host = Host(tmp_path)
    if size_mb is None:
        host.settle(24)

    def die(command: Sequence[str]) -> str:
        if command[1] == verb:
            raise KeyboardInterrupt
        return host.run(command)

    with pytest.raises(KeyboardInterrupt):
        module.settle(tmp_path, size_mb, die, host.measure, dry=False)
    assert host.settle(size_mb)["changed"]
    assert host.size == (size_mb or 200) * MIB
    assert not host.settle(size_mb)["changed"]


def test_a_mount_that_keeps_its_size_is_found_out(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with pytest.raises(module.TmpError, match="holds 209715200 bytes after it was mounted anew with 25165824"):
        module.settle(tmp_path, 24, lambda command: f"/{FRAGMENT}", host.measure, dry=False)


def test_a_tmpfs_that_no_unit_describes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(module.TmpError, match="no unit of systemd describes"):
        Host(tmp_path, fragment="").settle(24)


def test_an_operators_own_options_are_kept_or_win_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system/tmp.mount.d"
    folder.mkdir(parents=True)
    (folder / "10-mine.conf").write_text("[Mount]\nOptions=mode=1777,noexec,size=1G\n", "utf-8")
    host = Host(tmp_path)
    host.settle(24)
    assert host.options() == "mode=1777,noexec,size=24M"
    (folder / "95-mine.conf").write_text("[Mount]\nOptions=size=1G\n", "utf-8")
    with pytest.raises(module.TmpError, match=r"95-mine\.conf sets Options=size=1G and is read after our drop-in"):
        host.settle(24)


def test_a_mount_over_another_counts_once(tmp_path: Path) -> None:
    assert module.tmpfs_points(TRIXIE + "/dev/sda1 /tmp ext4 rw 0 0\n") == ["/run", "/dev/shm"]
    assert module.tmpfs_points("tmpfs /a\\040b tmpfs rw 0 0\n") == ["/a b"]


@given(
    st.lists(st.sampled_from(["rw", "nosuid", "mode=1777", "size=5%", "size=1g", "nr_inodes=9"])), st.integers(1, 999)
)
def test_any_options_keep_their_order_and_have_one_size(options: list[str], size_mb: int) -> None:
    parts = module.with_size(",".join(options), size_mb).split(",")
    assert parts[:-1] == [option for option in options if not option.startswith("size=")]
    assert parts[-1] == f"size={size_mb}M"
