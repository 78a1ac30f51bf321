"""Files of a role are placed whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from tests.roles.sources import load

files = load("preflight/library/placed_files.py")

ME = (os.getuid(), os.getgid())


def test_a_file_is_placed_once_with_its_folder_and_then_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "conf.d" / "50-pinch.conf"
    wanted = {str(path): "a = é\n"}
    (change,) = files.changes(wanted, 0o644, ME)
    assert (change["before"], change["after"]) == ("", "a = é\n")
    files.place(path, change["after"], 0o644, ME)
    assert path.read_text("utf-8") == "a = é\n"
    assert files.changes(wanted, 0o644, ME) == []


def test_text_and_permissions_that_drifted_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.place(path, "text", 0o644, ME)
    path.chmod(0o666)
    assert files.changes({str(path): "text"}, 0o644, ME)
    files.place(path, "text", 0o644, ME)
    path.write_bytes(b"\xff")
    assert files.changes({str(path): "text"}, 0o644, ME)
