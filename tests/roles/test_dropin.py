"""Drop-ins are read in the order systemd reads them, and changes that were cut are noticed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.sources import ROLES

assert ROLES
dropin = importlib.import_module("ansible.module_utils.dropin")

NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z0-9.]{0,12}\Z")
VALUES = st.from_regex(r"\A([a-z0-9%=,][a-z0-9%=, ]{0,12}[a-z0-9])?\Z")


def write(root: Path, name: str, text: str) -> Path:
    """Write a file of the board below `root`."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_a_vendors_drop_in_with_a_smaller_number_is_read_first_whatever_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/x.d/40-vendor.conf", "")
    write(tmp_path, "etc/x.d/90-pinch.conf", "")
    write(tmp_path, "run/x.d/99-z.conf", "")
    write(tmp_path, "etc/x.d/notes.txt", "")
    names = [path.name for path in dropin.ordered(tmp_path, ("etc/x.d", "run/x.d", "usr/lib/x.d"))]
    assert names == ["40-vendor.conf", "90-pinch.conf", "99-z.conf"]


def test_a_file_in_etc_takes_the_place_of_the_vendors_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/x.d/99-a.conf", "key = vendor\n")
    (tmp_path / "etc/x.d").mkdir(parents=True)
    (tmp_path / "etc/x.d/99-a.conf").symlink_to("/dev/null")
    assert list(dropin.read_later(tmp_path, ("etc/x.d", "usr/lib/x.d"), "90-pinch.conf")) == []


@given(st.lists(st.tuples(NAMES, VALUES)), st.sampled_from(["", "Journal"]))
def test_every_assignment_of_a_section_is_read_and_nothing_else(pairs: list[tuple[str, str]], section: str) -> None:
    lines = [line for name, value in pairs for line in (f"# {name} = no", f"  {name} = {value} ", "; x=y", "")]
    head = [f"[{section}]"] if section else []
    text = "\n".join([*head, *lines, "[Other]", "outside = 1"])
    assert list(dropin.assignments(text, section)) == pairs


@given(st.text())
def test_any_text_is_read_without_harm(text: str) -> None:
    assert all(name == name.strip() for name, _ in dropin.assignments(text))


def test_a_change_that_fails_leaves_its_mark_and_one_that_is_through_takes_it_away(tmp_path: Path) -> None:
    pending = dropin.Pending(tmp_path, "x")
    with pytest.raises(RuntimeError), pending.change():
        raise RuntimeError
    assert dropin.Pending(tmp_path, "x")
    with dropin.Pending(tmp_path, "x").change():
        assert dropin.Pending(tmp_path, "x")
    assert not dropin.Pending(tmp_path, "x")


def test_a_file_that_is_placed_differs_no_more_from_what_was_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.conf"
    assert dropin.diff(path, "é\n") == {
        "before": "",
        "after": "é\n",
        "before_header": "no file",
        "after_header": str(path),
    }
    dropin.place(path, "é\n")
    assert dropin.diff(path, "é\n") is None
    assert dropin.diff(path, None) == {
        "before": "é\n",
        "after": "",
        "before_header": str(path),
        "after_header": "no file",
    }
