from __future__ import annotations

from pathlib import Path

import pytest
from pinch_image.boards import find_board, load_boards
from pinch_image.build import HERE, image_folder, image_key
from pinch_image.definition import load_definition, load_toolbox
from pinch_image.failure import ImageError

BASE = (HERE / "base.toml").read_text(encoding="utf-8")


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in BASE
    path = folder / "base.toml"
    path.write_text(BASE.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_base_image_has_what_the_roles_need_without_internet() -> None:
    packages = load_definition(HERE / "base.toml").packages
    assert {"linux-image-arm64", "openssh-server", "sudo", "python3", "systemd-zram-generator", "zstd"} <= set(packages)


def test_the_base_image_has_the_file_by_which_tests_of_a_board_know_it() -> None:
    paths = {file.path for file in load_definition(HERE / "base.toml").files}
    assert "/etc/systemd/resolved.conf.d/10-pinch.conf" in paths


def test_the_base_image_lets_nobody_in_by_password() -> None:
    definition = load_definition(HERE / "base.toml")
    sshd = next(file for file in definition.files if file.path.startswith("/etc/ssh/sshd_config.d/"))
    assert "PasswordAuthentication no" in sshd.content
    assert not any("authorized_keys" in file.path or "PRIVATE KEY" in file.content for file in definition.files)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "schema = 2", "schema is 2"),
        ('suite = "trixie"', "", "'suite' is missing"),
        ('suite = "trixie"', "suite = 13", "suite is 13, expected str"),
        ('architecture = "arm64"', 'architecture = "s390x"', "'s390x', expected arm64"),
        ('hostname = "pinch"', 'hostnam = "pinch"', "'hostname' is missing"),
        ('"kmod"', '"kmod; rm"', "'kmod; rm', expected a valid name"),
        ('"kmod"', '"kmod", "kmod"', "kmod twice"),
        ("size_mb = 4096", "size_mb = 6", "size_mb is 6, expected 1024 to 65536"),
        ("size_mb = 4096", "size_mb = true", "size_mb is True, expected int"),
        ("size_mb = 4096", "size_mb = 4096\nlabl = 'X'", "unknown key 'labl'; did you mean 'label'?"),
        ('name = "pi"', 'name = "Pi user"', "expected a Unix account name"),
        ('path = "/etc/fstab"', 'path = "etc/fstab"', "expected an absolute path"),
        ('path = "/etc/fstab"', 'path = "/etc/../fstab"', "expected an absolute path"),
        ('path = "/etc/fstab"', 'path = "/etc/fstab"\nmode = "rw"', "expected octal permissions"),
        ("schema = 1", "schema = = 1", "not valid TOML"),
    ],
)
def test_a_wrong_definition_is_refused_in_one_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ImageError, match=r"base\.toml") as refused:
        load_definition(changed(tmp_path, old, new))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_definition_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        load_definition(tmp_path / "base.toml")
    with pytest.raises(ImageError, match="no image 'nope'; known: base"):
        image_folder("nope")


def test_the_toolbox_never_replaces_what_answers_with_its_architecture() -> None:
    toolbox = load_toolbox(HERE / "toolbox.toml")
    assert {"dpkg", "uname", "arch", "ldconfig"} <= toolbox.emulated
    assert not toolbox.emulated & toolbox.initramfs


def test_another_definition_is_another_image(tmp_path: Path) -> None:
    toolbox = HERE / "toolbox.toml"
    assert image_key(HERE / "base.toml", toolbox) == image_key(HERE / "base.toml", toolbox)
    assert image_key(changed(tmp_path, '"less"', '"vim"'), toolbox) != image_key(HERE / "base.toml", toolbox)


def test_the_boards_are_those_the_project_promises() -> None:
    boards = load_boards(HERE / "boards.toml")
    assert (boards["zero2w"].cpu, boards["zero2w"].memory_mb, boards["zero2w"].cpus) == ("cortex-a53", 512, 4)
    assert (boards["pi4"].cpu, boards["pi4"].memory_mb, boards["pi4"].cpus) == ("cortex-a72", 4096, 4)


def test_an_unknown_or_impossible_board_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no board 'pi9'; known: zero2w, pi4"):
        find_board(HERE / "boards.toml", "pi9")
    table = tmp_path / "boards.toml"
    table.write_text('[big]\ntitle = "B"\ncpu = "max"\ncpus = 64\nmemory_mb = 512\n', encoding="utf-8")
    with pytest.raises(ImageError, match="1 to 8 cpus"):
        load_boards(table)
