"""A kernel command line is edited without harm, whatever stands in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.sources import load

cmdline = load("memory_cgroup/library/boot_cmdline.py")

PRESENT = ("cgroup_enable=memory", "psi=1")
ABSENT = ("cgroup_disable=memory", "psi=0")
STOCK = "console=serial0,115200 console=tty1 root=PARTUUID=ab12cd34-02 rootfstype=ext4 fsck.repair=yes rootwait quiet\n"

WORDS = st.one_of(
    st.from_regex(r"\A[a-z_.]{1,12}(=[A-Za-z0-9,:/_-]{0,12})?\Z").filter(lambda word: not word.startswith("root=")),
    st.from_regex(r'\A[a-z]{1,8}="[a-z =]{0,12}"\Z').filter(lambda word: not word.startswith("root=")),
    st.sampled_from([*PRESENT, *ABSENT, "cgroup_enable=cpuset", "cgroup_memory=1", "psi=2"]),
)
SPACES = st.text(" \t", min_size=1, max_size=3)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Draw one bootable line with any words, quotes and blanks."""
    words = draw(st.lists(WORDS, max_size=12))
    words.insert(draw(st.integers(0, len(words))), "root=LABEL=ROOT")
    return "".join(word + draw(SPACES) for word in words).rstrip() + draw(st.sampled_from(["", "\n", "\n\n", "\r\n"]))


@given(lines())
def test_any_line_keeps_its_words_in_order_and_exactly_one_root(line: str) -> None:
    edited = cmdline.edit(line, PRESENT, ABSENT)
    before, after = cmdline.WORD.findall(line), cmdline.WORD.findall(edited)
    kept = [word for word in before if word not in ABSENT]
    assert after[: len(kept)] == kept
    assert set(after[len(kept) :]) <= set(PRESENT)
    assert set(PRESENT) <= set(after)
    assert not set(ABSENT) & set(after)
    assert sum(word.startswith("root=") for word in after) == 1
    assert len(edited.strip().splitlines()) == 1


@given(lines())
def test_editing_twice_is_editing_once(line: str) -> None:
    once = cmdline.edit(line, PRESENT, ABSENT)
    assert cmdline.edit(once, PRESENT, ABSENT) == once


@given(st.text())
def test_any_text_is_edited_whole_or_refused(text: str) -> None:
    try:
        edited = cmdline.edit(text, PRESENT, ABSENT)
    except cmdline.CmdlineError:
        return
    assert sum(word.startswith("root=") for word in cmdline.WORD.findall(edited)) == 1


def test_a_line_that_needs_nothing_is_left_byte_for_byte() -> None:
    line = "root=LABEL=ROOT   cgroup_enable=memory\tpsi=1"
    assert cmdline.edit(line, PRESENT, ABSENT) == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has 0 lines"),
        ("\n \n", "has 0 lines"),
        ("root=A quiet\nroot=B\n", "has 2 lines"),
        ("console=tty1 quiet\n", "names 0 roots"),
        ("root=A root=B\n", "names 2 roots"),
    ],
)
def test_a_line_that_would_not_boot_is_refused(text: str, said: str) -> None:
    with pytest.raises(cmdline.CmdlineError, match=said):
        cmdline.edit(text, PRESENT)


def board(root: Path, path: str, *, firmware_hook: bool = False) -> Path:
    """Make a root tree with the firmware's file at `path` and return that file."""
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(STOCK, "utf-8")
    (root / "proc").mkdir()
    (root / "proc/cmdline").write_text(STOCK, "utf-8")
    if firmware_hook:
        for name in ("etc/kernel/postinst.d/z50-raspi-firmware", "etc/default/raspi-firmware"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("", "utf-8")
    return file


@pytest.mark.parametrize("path", ["boot/firmware/cmdline.txt", "boot/cmdline.txt"])
def test_the_file_is_found_where_each_system_keeps_it(tmp_path: Path, path: str) -> None:
    file = board(tmp_path, path)
    assert cmdline.find(tmp_path) == file
    assert [change[0] for change in cmdline.plan(tmp_path, PRESENT, ABSENT)] == [file]
    assert cmdline.pending(tmp_path, PRESENT) == list(PRESENT)


def test_debians_firmware_hook_would_undo_the_edit_so_its_own_file_gets_the_words_too(tmp_path: Path) -> None:
    board(tmp_path, "boot/firmware/cmdline.txt", firmware_hook=True)
    changes = {path.name: after for path, _, after in cmdline.plan(tmp_path, PRESENT, ABSENT)}
    assert changes["raspi-extra-cmdline"] == "cgroup_enable=memory psi=1\n"
    assert changes["cmdline.txt"].endswith("quiet cgroup_enable=memory psi=1\n")


def test_a_damaged_file_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    file = board(tmp_path, "boot/firmware/cmdline.txt")
    file.write_bytes(b"root=A\xff\xfe\0")
    with pytest.raises(cmdline.CmdlineError, match=r"cmdline\.txt is not text"):
        cmdline.plan(tmp_path, PRESENT, ABSENT)
    assert file.read_bytes() == b"root=A\xff\xfe\0"


def test_what_was_done_is_undone_and_nothing_else(tmp_path: Path) -> None:
    file = board(tmp_path, "boot/firmware/cmdline.txt", firmware_hook=True)
    file.write_text("psi=0 root=A quiet cgroup_enable=memory\n", "utf-8")
    extra = tmp_path / cmdline.RASPI_FIRMWARE_EXTRA
    for present in (["psi=1"], ["psi=1", "cgroup_enable=memory"]):
        changes = cmdline.plan(tmp_path, present, ABSENT)
        cmdline.record(tmp_path, changes)
        cmdline.make(changes)
    file.write_text(file.read_text("utf-8").replace("quiet", "quiet splash"), "utf-8")  # by the owner, meanwhile
    cmdline.undo(tmp_path, cmdline.plan_undo(tmp_path))
    assert file.read_text("utf-8").split() == ["root=A", "quiet", "splash", "cgroup_enable=memory", "psi=0"]
    assert not extra.exists()
    assert sorted(path.name for path in file.parent.iterdir()) == ["cmdline.txt"]
    assert cmdline.plan_undo(tmp_path) == []


def test_the_backup_is_the_file_as_it_first_was(tmp_path: Path) -> None:
    board(tmp_path, "boot/firmware/cmdline.txt")
    for present in (["psi=1"], ["cgroup_enable=memory"]):
        changes = cmdline.plan(tmp_path, present, ())
        cmdline.record(tmp_path, changes)
        backup = cmdline.make(changes)
    assert Path(backup).read_text("utf-8") == STOCK


@given(lines(), st.lists(st.sampled_from([*PRESENT, "quiet2"]), unique=True), st.lists(st.sampled_from(ABSENT)))
def test_undoing_gives_back_the_words_of_any_line(line: str, present: list[str], absent: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        file = board(root, "boot/firmware/cmdline.txt")
        file.write_text(line, "utf-8")
        changes = cmdline.plan(root, present, absent)
        cmdline.record(root, changes)
        cmdline.make(changes)
        cmdline.undo(root, cmdline.plan_undo(root))
        assert set(cmdline.WORD.findall(file.read_text("utf-8"))) == set(cmdline.WORD.findall(line))


def test_a_damaged_record_is_named_and_nothing_is_undone(tmp_path: Path) -> None:
    file = board(tmp_path, "boot/firmware/cmdline.txt")
    (tmp_path / cmdline.RECORD).parent.mkdir(parents=True)
    (tmp_path / cmdline.RECORD).write_text('{"boot', "utf-8")
    with pytest.raises(cmdline.CmdlineError, match=r"cmdline\.json is damaged"):
        cmdline.plan_undo(tmp_path)
    assert file.read_text("utf-8") == STOCK
