from __future__ import annotations

from dataclasses import replace
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
    with pytest.raises(ImageError, match="no image 'nope'; known: armhf, base, bookworm, trixie-16k"):
        image_folder("nope")


def test_the_toolbox_never_replaces_what_answers_with_its_architecture() -> None:
    toolbox = load_toolbox(HERE / "toolbox.toml")
    assert {"dpkg", "uname", "arch", "ldconfig"} <= toolbox.emulated
    assert not toolbox.emulated & toolbox.initramfs


def test_another_definition_is_another_image(tmp_path: Path) -> None:
    toolbox = HERE / "toolbox.toml"
    assert image_key(HERE / "base.toml", toolbox) == image_key(HERE / "base.toml", toolbox)
    assert image_key(changed(tmp_path, '"less"', '"vim"'), toolbox) != image_key(HERE / "base.toml", toolbox)


def test_an_image_made_from_another_changes_only_what_it_says() -> None:
    base, pages = (load_definition(HERE / f"{name}.toml") for name in ("base", "trixie-16k"))
    assert set(base.packages) ^ set(pages.packages) == {"linux-image-arm64", "linux-image-arm64-16k"}
    assert replace(pages, name=base.name, packages=base.packages) == base


def test_the_32_bit_image_has_no_compiler_and_no_arm64_kernel() -> None:
    armhf = load_definition(HERE / "armhf.toml")
    assert armhf.architecture == "armhf"
    assert "linux-image-armmp" in armhf.packages
    assert not {"linux-image-arm64", "gcc", "build-essential"} & set(armhf.packages)


def test_a_card_of_any_image_makes_its_own_host_key() -> None:
    for name in ("base", "bookworm"):
        definition = load_definition(HERE / f"{name}.toml")
        paths = {file.path for file in definition.files}
        assert "/etc/systemd/system/sshd-keygen.service.d/10-pinch.conf" in paths
        assert ("/etc/systemd/system/sshd-keygen.service" in paths) == (definition.suite == "bookworm")


def test_a_change_of_the_base_image_is_another_image_of_all_made_from_it(tmp_path: Path) -> None:
    toolbox = HERE / "toolbox.toml"
    (tmp_path / "trixie-16k.toml").write_bytes((HERE / "trixie-16k.toml").read_bytes())
    changed(tmp_path, '"less"', '"vim"')
    assert image_key(tmp_path / "trixie-16k.toml", toolbox) != image_key(HERE / "trixie-16k.toml", toolbox)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('[remove]\npackages = ["nano"]', "[remove]: packages has no 'nano' to remove"),
        ('[remove]\nfile = ["/etc/nope"]', "[remove]: file has no '/etc/nope' to remove"),
        ('[remove.units]\nenable = ["x.service"]', "[remove] units: enable has no 'x.service'"),
        ('[add]\npackages = ["less"]', "names less twice"),
        ('[add]\npackage = ["vim"]', "[add]: package is no list in both files"),
        ('[remove]\nsuite = ["trixie"]', "[remove]: suite is no list in both files"),
        ('packages = ["vim"]', "packages would replace all of it"),
        ('suit = "sid"', "unknown key 'suit'; did you mean 'suite'?"),
        ("add = 1", "add is 1, expected a table"),
    ],
)
def test_a_wrong_change_of_another_image_is_refused_in_one_sentence(tmp_path: Path, change: str, says: str) -> None:
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nfrom = "base"\n{change}\n', encoding="utf-8")
    with pytest.raises(ImageError, match=r"mine\.toml") as refused:
        load_definition(path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_image_is_made_from_a_whole_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('from = "two"\n', encoding="utf-8")
    with pytest.raises(ImageError, match=r"two\.toml does not exist"):
        load_definition(tmp_path / "one.toml")
    (tmp_path / "two.toml").write_text('from = "base"\n', encoding="utf-8")
    with pytest.raises(ImageError, match="'two', which is made from another one itself"):
        load_definition(tmp_path / "one.toml")


@pytest.mark.parametrize(
    ("name", "cpu", "memory_mb", "system"),
    [
        ("zero2w", "cortex-a53", 512, "base"),
        ("pi3", "cortex-a53", 1024, "base"),
        ("pi4", "cortex-a72", 4096, "base"),
        ("pi5", "cortex-a76", 4096, "trixie-16k"),
        ("armhf", "cortex-a7", 512, "armhf"),
    ],
)
def test_the_boards_are_those_the_project_promises(name: str, cpu: str, memory_mb: int, system: str) -> None:
    board = find_board(HERE / "boards.toml", name)
    assert (board.cpu, board.memory_mb, board.cpus, board.systems[0]) == (cpu, memory_mb, 4, system)
    assert "cgroup_disable=memory" in board.bootargs


def test_every_system_of_a_board_is_an_image() -> None:
    for board in load_boards(HERE / "boards.toml").values():
        for system in board.systems:
            assert load_definition(HERE / f"{system}.toml").name == system


def test_there_can_be_several_boards_of_a_kind() -> None:
    first, second = (find_board(HERE / "boards.toml", name) for name in ("zero2w", "zero2w-2"))
    assert (second.name, second.kind) == ("zero2w-2", "zero2w")
    assert replace(second, name="zero2w") == first
    for wrong in ("zero2w-1", "zero2w-x", "zero2w-", "-2"):
        with pytest.raises(ImageError, match="and more of a kind as zero2w-2"):
            find_board(HERE / "boards.toml", wrong)


def test_an_unknown_or_impossible_board_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no board 'pi9'; known: zero2w, pi3, pi4, pi5, armhf"):
        find_board(HERE / "boards.toml", "pi9")
    table = tmp_path / "boards.toml"
    whole = '[big]\ntitle = "B"\ncpu = "max"\ncpus = 64\nmemory_mb = 512\nbootargs = ""\nsystems = ["base"]\n'
    table.write_text(whole, encoding="utf-8")
    with pytest.raises(ImageError, match="1 to 8 cpus"):
        load_boards(table)
    table.write_text(whole.replace("64", "4").replace('"base"', ""), encoding="utf-8")
    with pytest.raises(ImageError, match="systems is empty"):
        load_boards(table)
