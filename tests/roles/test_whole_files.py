"""A file that a role writes is the old one or the new one, whatever ends the run that writes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.sources import ROLES, load

files = load("common/module_utils/pinch_files.py")

SHARED = str(ROLES / "common/module_utils")
OLD, NEW = "old\n", "new" * 5000 + "\n"
DYING = """
import os, signal, sys
from pathlib import Path

def count(frame, event, called):
    global left
    of_files = event == "c_call" and (called.__module__ == "posix" or type(called.__self__).__module__ == "_io")
    left -= of_files
    if of_files and not left:
        os.kill(os.getpid(), signal.SIGKILL)

sys.path.insert(0, sys.argv[1])
import pinch_files
act, path, left = getattr(pinch_files, sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
sys.setprofile(count)
act(path, sys.argv[5])
sys.setprofile(None)
"""
"""Kills itself before the n-th thing that it does to a file: to open, write, flush, rename, remove it."""

FILLING = """
import resource, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import pinch_files
if sys.argv[2] == "dies":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
pinch_files.place(Path(sys.argv[3]), sys.argv[4])
"""
"""Has room for 9000 bytes: what it writes beyond them fails, or kills it."""


def run_until(step: int, act: str, path: Path, value: str) -> int:
    """Write in a process that dies at its `step`; return its status, 0 where it was through before."""
    return subprocess.run([sys.executable, "-IB", "-c", DYING, SHARED, act, str(path), str(step), value]).returncode


def test_a_run_killed_at_any_point_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path, found = tmp_path / "50-pinch.conf", []
    for step in range(1, 100):
        files.place(path, OLD)
        status = run_until(step, "place", path, NEW)
        found.append(path.read_text("utf-8"))
        beside = [file.name for file in tmp_path.iterdir() if file != path]
        # systemd reads no drop-in of such a name.
        assert all(name.startswith(".") and not name.endswith(".conf") for name in beside)
        if not status:
            break
        assert status == -signal.SIGKILL
    assert found == sorted(found, reverse=True)  # old, and from the rename on new
    assert set(found) == {OLD, NEW}


def test_a_run_killed_at_any_point_leaves_the_old_link_or_the_new_one_and_the_next_run_tidies(tmp_path: Path) -> None:
    link, found = tmp_path / "current", []
    for step in range(1, 100):
        files.point(link, "releases/old")
        status = run_until(step, "point", link, "releases/new")
        found.append(str(link.readlink()))
        files.point(link, "releases/third")
        assert [file.name for file in tmp_path.iterdir()] == ["current"]
        if not status:
            break
        assert status == -signal.SIGKILL
    assert set(found) == {"releases/old", "releases/new"}
    assert found == sorted(found, reverse=True)


def test_text_and_new_name_are_on_the_disk_in_this_order(tmp_path: Path) -> None:
    """Without the first a power cut may leave an empty file of that name, without the second the old one."""
    called: list[str] = []
    sys.setprofile(lambda _, event, function: called.append(function.__name__) if event == "c_call" else None)
    try:
        files.place(tmp_path / "file", NEW)
    finally:
        sys.setprofile(None)
    order = ("write", "flush", "fsync", "replace")
    assert [name for name in called if name in order] == [*order, "fsync"]


@pytest.mark.parametrize("end", ["fails", "dies"])
def test_a_write_that_ends_in_the_middle_leaves_the_old_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / "file"
    files.place(path, OLD)
    command = [sys.executable, "-IB", "-c", FILLING, SHARED, end, str(path), NEW]
    done = subprocess.run(command, capture_output=True, text=True)
    assert path.read_text("utf-8") == OLD
    beside = [file for file in tmp_path.iterdir() if file != path]
    if end == "dies":
        assert done.returncode == -signal.SIGXFSZ
        assert [file.stat().st_size for file in beside] == [9000]
    else:
        assert f"File too large: {str(path)!r}" in done.stderr
        assert beside == []


def test_a_name_that_is_taken_by_a_folder_is_refused_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="folder"):
        files.place(tmp_path / "folder", NEW)
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_file_has_the_mode_asked_for_under_any_umask(tmp_path: Path, mode: int) -> None:
    path, before = tmp_path / "a" / "b" / "file", os.umask(0o077)
    try:
        files.place(path, NEW, mode)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == mode


def test_where_no_owner_is_named_the_file_system_is_not_asked_for_one(tmp_path: Path) -> None:
    """FAT has no owners, and one that is mounted for a user refuses any other."""
    asked = "import sys; sys.addaudithook(lambda event, _: event == 'os.chown' and sys.exit('asked'))\n"
    asked += f"sys.path.insert(0, {SHARED!r}); import pinch_files, os\n"
    asked += f"from pathlib import Path; pinch_files.place(Path({str(tmp_path / 'cmdline.txt')!r}), 'x', 0o755"
    nobody, somebody = f"{asked})", f"{asked}, (os.getuid(), os.getgid()))"
    said = [subprocess.run([sys.executable, "-IB", "-c", script]).returncode for script in (nobody, somebody)]
    assert said == [0, 1]
    assert (tmp_path / "cmdline.txt").stat().st_mode & 0o777 == 0o755


def test_a_link_gives_way_to_a_file_and_what_it_pointed_to_stays(tmp_path: Path) -> None:
    (tmp_path / "there").write_text(OLD, "utf-8")
    (tmp_path / "file").symlink_to("there")
    files.place(tmp_path / "file", NEW)
    assert (files.read(tmp_path / "there"), (tmp_path / "file").is_symlink()) == (OLD, False)


def test_a_folder_goes_with_its_last_file_and_not_before(tmp_path: Path) -> None:
    for name in ("a", "b"):
        files.place(tmp_path / "found" / name, "")
    assert files.clear(tmp_path / "found" / "a")
    assert (tmp_path / "found").exists()
    assert files.clear(tmp_path / "found" / "b")
    assert not (tmp_path / "found").exists()
    assert not files.clear(tmp_path / "found" / "b")


def test_what_is_put_is_there_and_none_takes_it_away(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    files.put(path, NEW)
    assert files.read(path) == NEW
    for _ in range(2):
        files.put(path, None)
        assert files.read(path) is None
    assert not files.remove(path)


@pytest.mark.parametrize(("folder", "stays"), [("journald.conf.d", False), ("tmp.mount.d", False), ("sysctl.d", True)])
def test_an_empty_folder_goes_where_it_is_there_for_drop_ins_alone(tmp_path: Path, folder: str, stays: bool) -> None:
    path = tmp_path / folder / "50-pinch.conf"
    files.put(path, NEW)
    files.put(path, None)
    assert path.parent.exists() is stays


@given(st.binary().filter(lambda data: b"\r" not in data))
def test_bytes_that_are_no_text_come_back_as_they_were(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        files.place(path, files.read(path))
        assert path.read_bytes() == data
