from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinch_image.firmware import CMDLINE, kernel_arguments, parse_cmdline, read_cmdline

WORDS = st.lists(st.from_regex(r"[a-z_]{1,12}(=[!-~]{1,12})?", fullmatch=True), max_size=8)
CONTROLLERS = st.lists(st.sampled_from(["memory", "io", "pids"]), min_size=1, max_size=3, unique=True)
SWITCHES = st.builds(
    lambda verb, names: f"cgroup_{verb}={','.join(names)}", st.sampled_from(["disable", "enable"]), CONTROLLERS
)


def firmware(folder: Path, content: bytes | None) -> Path:
    disk = folder / "firmware.raw"
    subprocess.run(["mformat", "-C", "-i", disk, "-T", "8192", "::"], check=True)
    if content is not None:
        (folder / CMDLINE).write_bytes(content)
        subprocess.run(["mcopy", "-i", disk, folder / CMDLINE, "::"], check=True)
    return disk


def test_the_card_says_what_the_kernel_is_told(tmp_path: Path) -> None:
    read = read_cmdline(firmware(tmp_path, b"root=LABEL=ROOT rw  rootwait psi=1\n"))
    assert read.words == ("root=LABEL=ROOT", "rw", "rootwait", "psi=1")
    assert read.complaint is None


def test_a_card_without_the_file_boots_without_words_and_that_is_said(tmp_path: Path) -> None:
    read = read_cmdline(firmware(tmp_path, None))
    assert read.words == ()
    assert read.complaint is not None
    assert "no cmdline.txt" in read.complaint
    (tmp_path / "damaged").write_bytes(bytes(4096))
    assert "no cmdline.txt" in str(read_cmdline(tmp_path / "damaged").complaint)


@pytest.mark.parametrize(
    ("content", "words", "says"),
    [
        (b"", (), "no root="),
        (b"console=tty1 psi=1\n", ("console=tty1", "psi=1"), "no root= in the first line of cmdline.txt"),
        (b"root=a rw\npsi=1\n", ("root=a", "rw"), "2 lines in cmdline.txt, of which it takes the first"),
        (b"\nroot=a\n", (), "no root="),
        (b"root=\xff\r\n", ("root=�",), None),
        (b"root=a\n\n \n", ("root=a",), None),
    ],
)
def test_of_a_wrong_file_the_first_line_is_taken_and_the_fault_is_named(
    content: bytes, words: tuple[str, ...], says: str | None
) -> None:
    read = parse_cmdline(content)
    assert read.words == words
    assert says in read.complaint if says and read.complaint else read.complaint is says


@given(st.binary(max_size=200))
def test_any_file_gives_one_line_of_words(content: bytes) -> None:
    words = parse_cmdline(content).words
    assert all(word and not set(word) & set(" \t\n\r\0") for word in words)


@pytest.mark.parametrize(
    ("board", "card", "told"),
    [
        ("cgroup_disable=memory", "root=a", "cgroup_disable=memory root=a"),
        ("cgroup_disable=memory", "root=a cgroup_enable=memory", "root=a cgroup_enable=memory"),
        ("cgroup_disable=memory,io", "cgroup_enable=memory", "cgroup_disable=io cgroup_enable=memory"),
        ("cgroup_disable=memory", "cgroup_enable=cpuset,memory", "cgroup_enable=cpuset,memory"),
        ("cgroup_disable=memory", "cgroup_memory=1", "cgroup_disable=memory cgroup_memory=1"),
        ("", "cgroup_enable=memory cgroup_disable=memory", "cgroup_enable=memory cgroup_disable=memory"),
    ],
)
def test_the_card_undoes_what_the_board_disables_as_in_a_pis_kernel(board: str, card: str, told: str) -> None:
    assert kernel_arguments(board.split(), card.split()) == told


@given(WORDS, WORDS)
def test_all_other_words_reach_the_kernel_in_their_order(board: list[str], card: list[str]) -> None:
    assert kernel_arguments(board, card).split() == [*board, *card]


@given(st.lists(SWITCHES, max_size=6))
def test_debians_kernel_ends_with_the_controllers_that_a_pis_kernel_would_have(words: list[str]) -> None:
    pi: set[str] = set()
    for word in words:
        verb, _, names = word.partition("=")
        pi = pi | set(names.split(",")) if verb == "cgroup_disable" else pi - set(names.split(","))
    told = kernel_arguments(words).split()
    debian = {name for word in told if word.startswith("cgroup_disable=") for name in word.partition("=")[2].split(",")}
    assert debian == pi
