from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from pinch_image import access, build_command, host, qmp
from pinch_image.boards import find_board
from pinch_image.bootstrap import mmdebstrap, package_versions
from pinch_image.build import HERE, ensure_image, image_folder
from pinch_image.card import Card
from pinch_image.chroot import Chroot
from pinch_image.definition import load_definition
from pinch_image.failure import ImageError
from pinch_image.instance import Instance, Run
from pinch_image.machine import Wiring, command_line, credential_words, key_credential
from pinch_image.process import Process, spawn

HOST_CPUS = 8
BOARD = find_board(HERE / "boards.toml", "zero2w")


def wiring(folder: Path, offline: bool = True, architecture: str = "arm64") -> Wiring:
    return Wiring(
        architecture=architecture,
        kernel=folder / "vmlinuz",
        initramfs=folder / "initrd.img",
        disk=folder / "card.qcow2",
        firmware=folder / "firmware.raw",
        credentials=folder / "credentials",
        serial=folder / "serial.log",
        qmp=folder / "qmp",
        port=2222,
        offline=offline,
    )


def emulator(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HERE / "emulator"), *arguments], capture_output=True, text=True, env=os.environ | environment
    )


def test_an_offline_board_is_reached_on_loopback_only_and_reaches_nothing(tmp_path: Path) -> None:
    line = " ".join(command_line(BOARD, wiring(tmp_path), HOST_CPUS))
    assert "restrict=on,hostfwd=tcp:127.0.0.1:2222-:22" in line
    assert "restrict=off" in " ".join(command_line(BOARD, wiring(tmp_path, offline=False), HOST_CPUS))
    assert "-cpu cortex-a53 -smp 4 -m 512" in line
    assert "thread=multi" in line


def test_a_32_bit_board_is_a_machine_whose_devices_its_kernel_can_reach(tmp_path: Path) -> None:
    board = find_board(HERE / "boards.toml", "armhf")
    line = " ".join(command_line(board, wiring(tmp_path, architecture="armhf"), HOST_CPUS))
    assert line.startswith("qemu-system-arm -nodefaults -M virt,highmem=off -cpu cortex-a7 ")


@pytest.mark.parametrize(("host_cpus", "emulated"), [(2, 2), (4, 4), (16, 4)])
def test_a_board_has_no_more_processors_than_the_machine_it_runs_on(
    tmp_path: Path, host_cpus: int, emulated: int
) -> None:
    assert f"-smp {emulated} " in " ".join(command_line(BOARD, wiring(tmp_path), host_cpus))


def test_a_flush_of_the_board_is_not_ignored(tmp_path: Path) -> None:
    line = " ".join(command_line(BOARD, wiring(tmp_path), HOST_CPUS))
    assert line.count("cache=writeback") == 2
    assert "unsafe" not in line


def test_paths_that_qemu_cannot_carry_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="comma"):
        command_line(BOARD, wiring(tmp_path / "a,b"), HOST_CPUS)
    with pytest.raises(ImageError, match="shorter --state"):
        command_line(BOARD, wiring(tmp_path / ("x" * 100)), HOST_CPUS)


def test_the_key_goes_to_the_user_and_to_nobody_else() -> None:
    lines = key_credential("pi", "ssh-ed25519 AAAA me@100%\n").splitlines()
    assert lines[0] == "d /home/pi/.ssh 0700 pi pi -"
    assert lines[1] == "f+ /home/pi/.ssh/authorized_keys 0600 pi pi - ssh-ed25519 AAAA me@100%%"
    with pytest.raises(ImageError, match="no account name"):
        key_credential("pi pi", "ssh-ed25519 AAAA")


def test_the_key_is_handed_over_in_the_one_way_that_the_boards_kernel_knows(tmp_path: Path) -> None:
    for architecture, board in (("arm64", "zero2w"), ("armhf", "armhf")):
        line = command_line(find_board(HERE / "boards.toml", board), wiring(tmp_path, architecture=architecture), 2)
        words = credential_words(architecture, "f+ /x - - - - key\n")
        assert ("-fw_cfg" in line) == (not words)
    assert words == ["systemd.set_credential_binary=tmpfiles.extra:ZisgL3ggLSAtIC0gLSBrZXkK"]


def test_the_mirror_is_the_machines_own_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    definition = load_definition(HERE / "base.toml")
    monkeypatch.delenv("PINCH_DEBIAN_MIRROR", raising=False)
    plain = mmdebstrap(definition, "arm64", "bash", tmp_path, ())
    assert plain[-2:] == ["trixie", str(tmp_path)]
    monkeypatch.setenv("PINCH_DEBIAN_MIRROR", "file:///mirror")
    assert mmdebstrap(definition, "arm64", "bash", tmp_path, ()) == [*plain, "file:///mirror"]
    assert "--mode=root" in plain
    assert not any("chrootless" in part for part in plain)


def test_a_package_left_half_installed_is_named(tmp_path: Path) -> None:
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    whole = "Package: bash\nStatus: install ok installed\nVersion: 5.2\nDescription: x\n y: z\n"
    status.write_text(whole, encoding="utf-8")
    assert package_versions(tmp_path) == {"bash": "5.2"}
    status.write_text(whole + "\nPackage: sudo\nStatus: install ok unpacked\nVersion: 1\n", encoding="utf-8")
    with pytest.raises(ImageError, match="sudo ended as 'install ok unpacked'"):
        package_versions(tmp_path)


def test_only_programs_that_both_sides_have_are_replaced(tmp_path: Path) -> None:
    root, toolbox = tmp_path / "root", tmp_path / "toolbox"
    for tree, names in (
        (root, ("sed", "dpkg", "only-here", "script")),
        (toolbox, ("sed", "dpkg", "only-there", "script")),
    ):
        for folder in ("usr/bin", "usr/sbin"):
            (tree / folder).mkdir(parents=True)
        for name in names:
            (tree / "usr/bin" / name).write_bytes(b"#!/bin/sh\n" if name == "script" else b"\x7fELF")
    (root / "usr/sbin/sed").symlink_to("../bin/sed")
    (toolbox / "usr/sbin/sed").write_bytes(b"\x7fELF")
    assert Chroot(root, toolbox, "amd64", tmp_path / "log").native_programs(but=["dpkg"]) == ["/usr/bin/sed"]


def test_the_places_for_native_libraries_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    chroot = Chroot(tmp_path, tmp_path, "amd64", tmp_path / "log")
    chroot.open_for_native()
    chroot.open_for_native()
    assert (tmp_path / "lib64").is_symlink()
    chroot.close_for_native()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["lib", "usr"]


def test_building_without_root_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PINCH_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match=r"needs root.*make image-base"):
        ensure_image("base")
    assert not list(tmp_path.iterdir())


def image_base(cache: Path) -> str:
    """What `make image-base` prints, where root only says what it would do."""
    # Made targets are left alone: no virtual environment is set up for this.
    command = ["make", "-o", ".venv/ready", "image-base", "ROOT=echo"]
    environment = os.environ | {"PINCH_CACHE": str(cache)}
    return subprocess.run(command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=True).stdout


def test_root_is_asked_for_an_image_that_is_not_cached_and_for_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "the cache"
    asked = image_base(cache)
    assert (
        f"Root builds the base image of the emulated boards, for its file owners and mounts, into {cache}/image"
        in asked
    )
    assert f"env PINCH_CACHE={cache}" in asked
    assert cache.stat().st_uid == os.geteuid()
    monkeypatch.setenv("PINCH_CACHE", str(cache))
    image_folder("base").mkdir(parents=True)
    (image_folder("base") / "manifest.json").touch()
    assert "PINCH_CACHE" not in image_base(cache)


def test_what_root_makes_in_the_cache_goes_to_the_owner_of_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[tuple[Path, int]] = []

    def chown(path: Path, user: int, group: int, *, follow_symlinks: bool) -> None:
        assert (group, follow_symlinks) == (tmp_path.stat().st_gid, False)
        given.append((path, user))

    monkeypatch.setenv("PINCH_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(sys, "argv", ["image/build"])
    folder = image_folder("base")
    other = folder.with_name("0123456789abcdef.partial")
    archives = folder.parent / "archives" / "base"
    for path in (folder, archives, other):
        path.mkdir(parents=True)
    for path in (folder / "root.raw", folder.with_suffix(".lock"), archives / "bash.deb"):
        path.touch()
    files = {"root.raw": {"bytes_on_disk": 0}}
    manifest = {"packages": {}, "build_seconds": 1, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert build_command.main() == 0
    whose = tmp_path.stat().st_uid
    made = {path for path in folder.parent.rglob("*") if path != other} | {folder.parent}
    assert set(given) == {(path, whose) for path in made}


def test_a_missing_tool_or_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no-such-tool not found.*apt-get install"):
        host.need_tools("sh", "no-such-tool")
    with pytest.raises(ImageError, match="MB are needed"):
        host.need_space(tmp_path, 2**60)


def test_a_kernel_that_runs_no_programs_of_the_image_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "native_architecture", lambda: "amd64")
    monkeypatch.setattr(host, "BINFMT", tmp_path)
    monkeypatch.setattr(host, "RULES", ())
    (tmp_path / "register").touch()
    with pytest.raises(ImageError, match="cannot run arm64 programs"):
        host.need_interpreter("arm64")
    (tmp_path / "qemu-aarch64").write_text("enabled\ninterpreter /usr/bin/q\nflags: PO\n", encoding="ascii")
    with pytest.raises(ImageError, match="cannot run arm64 programs"):
        host.need_interpreter("arm64")
    (tmp_path / "qemu-aarch64").write_text("enabled\ninterpreter /usr/bin/q\nflags: POF\n", encoding="ascii")
    host.need_interpreter("arm64")
    with pytest.raises(ImageError, match="cannot run armhf programs"):
        host.need_interpreter("armhf")


def test_a_process_is_known_by_more_than_its_id(tmp_path: Path) -> None:
    process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    stranger = Process(process.pid, process.started - 1)
    stranger.kill()
    assert process.alive()
    assert not stranger.alive()
    process.kill()
    assert not process.alive()


def test_a_process_does_not_leave_behind_what_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = spawn(["sh", "-c", "sleep 600 & cut -d ' ' -f 1,22 /proc/$!/stat && wait"], log)
    while not (said := log.read_text().split()):
        assert process.alive()
    process.kill()
    assert Process(int(said[0]), int(said[1])).wait(30)


def test_a_free_port_is_kept_while_it_is_free() -> None:
    with socket.create_server((access.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert access.free_port(port) != port
    assert access.free_port(port) == port


@pytest.mark.parametrize(
    "last", ["Kernel panic - not syncing: No init\n", "You are in emergency mode.\n", "(initramfs) "]
)
def test_waiting_for_ssh_ends_at_once_when_the_board_is_dead(tmp_path: Path, last: str) -> None:
    serial = tmp_path / "serial.log"
    serial.write_text(f"\x1b[31mbooting\x1b[0m\n{last}", encoding="utf-8")
    entrance = access.Access(access.free_port(), tmp_path / "key", tmp_path / "known_hosts")
    with pytest.raises(ImageError, match="stopped while it booted") as refused:
        access.wait_for_ssh(entrance, serial, lambda: True, 60)
    assert last.strip() in str(refused.value)
    assert "\x1b" not in str(refused.value)
    with pytest.raises(ImageError, match="QEMU ended"):
        access.wait_for_ssh(entrance, serial, lambda: False, 60)


def test_a_control_socket_that_refuses_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with pytest.raises(ImageError, match="does not answer"):
        qmp.execute(path, "system_reset")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def refuse() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as stream:
                stream.write('{"QMP": {}}\n{"return": {}}\n{"event": "X"}\n{"error": {"desc": "not now"}}\n')
                stream.flush()
                stream.read()

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(ImageError, match="refused system_reset: not now"):
            qmp.execute(path, "system_reset")
        thread.join()


def test_a_board_that_is_off_says_so_and_can_be_switched_off_again(tmp_path: Path) -> None:
    instance = Instance(BOARD, tmp_path / "zero2w")
    assert instance.down(1)["running"] is False
    for switch in (instance.cut, instance.reset, lambda: instance.ssh([])):
        with pytest.raises(ImageError, match="zero2w is off"):
            switch()


def test_down_without_a_name_ends_every_board_that_is_on(tmp_path: Path) -> None:
    running = {}
    for name in ("zero2w", "pi4"):
        (tmp_path / name).mkdir()
        # Stands in for QEMU; nobody answers on its control socket, so it is cut after the timeout.
        process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
        run = Run(process.pid, process.started, 2222, offline=True, image="")
        (tmp_path / name / "run.json").write_text(json.dumps(asdict(run)), encoding="ascii")
        running[name] = process
    done = emulator("down", "--timeout", "0", "--state", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "zero2w is off\npi4 is off\n")
    assert not any(process.alive() for process in running.values())
    assert emulator("down", "--state", str(tmp_path)).returncode == 0
    assert emulator("up", "--state", str(tmp_path)).returncode == 2


def test_a_damaged_record_is_reported(tmp_path: Path) -> None:
    instance = Instance(BOARD, tmp_path)
    (tmp_path / "run.json").write_text('{"pid": 1', encoding="utf-8")
    with pytest.raises(ImageError, match="damaged"):
        instance.report()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image too small to boot, and large enough for a card."""
    folder = tmp_path / "image"
    folder.mkdir()
    for name in ("root.raw", "firmware.raw"):
        (folder / name).write_bytes(bytes(2**20))
    manifest = {"architecture": "arm64", "files": {"root.raw": {"sha256": "1"}}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_a_card_remembers_what_it_was_made_over(tmp_path: Path, image: Path) -> None:
    card = Card(tmp_path, "zero2w")
    assert not card.there()
    card.make(image, "bookworm")
    assert card.there()
    assert (card.origin().image, card.origin().system) == (str(image), "bookworm")
    assert card.firmware.read_bytes() == (image / "firmware.raw").read_bytes()
    card.remove()
    assert not card.there()


def test_a_card_never_boots_over_another_image(tmp_path: Path, image: Path) -> None:
    Card(tmp_path, "zero2w").make(image, "base")
    (image / "manifest.json").write_text(json.dumps({"files": {"root.raw": {"sha256": "2"}}}), encoding="utf-8")
    with pytest.raises(ImageError, match=r"gone or was built anew: start with a new card"):
        Instance(BOARD, tmp_path).up(None, no_image, offline=True, fresh=False, limit_s=1)


def test_half_a_card_is_refused(tmp_path: Path, image: Path) -> None:
    card = Card(tmp_path, "zero2w")
    card.make(image, "base")
    card.firmware.unlink()
    with pytest.raises(ImageError, match="start with a new card"):
        card.origin()


def test_a_card_of_an_older_checkout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.qcow2").touch()
    (tmp_path / "card.json").write_text(json.dumps({"image": "x", "sha256": "0"}), encoding="utf-8")
    with pytest.raises(ImageError, match="older checkout: start with a new card"):
        Instance(BOARD, tmp_path).up(None, no_image, offline=True, fresh=False, limit_s=1)


def test_a_card_is_not_taken_for_one_of_another_system(tmp_path: Path, image: Path) -> None:
    Card(tmp_path, "zero2w").make(image, "base")
    with pytest.raises(ImageError, match="card holds base, not bookworm"):
        Instance(BOARD, tmp_path).up("bookworm", no_image, offline=True, fresh=False, limit_s=1)


def test_a_board_is_not_given_a_system_it_cannot_run(tmp_path: Path) -> None:
    refused = emulator("up", "zero2w", "--system", "armhf", "--state", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr == "emulator: zero2w does not run 'armhf'; it runs base, bookworm.\n"


def no_image(name: str) -> Path:
    raise AssertionError(f"image {name} is not needed for a card that is there")


def test_every_board_that_is_on_is_listed(tmp_path: Path) -> None:
    running = {}
    for name in ("zero2w-10", "zero2w-2", "stranger", "pi3"):
        (tmp_path / name).mkdir()
        process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
        run = Run(process.pid, process.started, 2222, offline=True, image="")
        (tmp_path / name / "run.json").write_text(json.dumps(asdict(run)), encoding="ascii")
        running[name] = process
    running["pi3"].kill()
    try:
        boards = json.loads(emulator("status", "--json", "--state", str(tmp_path)).stdout)
        assert [(board["board"], board["kind"]) for board in boards] == [
            ("zero2w-2", "zero2w"),
            ("zero2w-10", "zero2w"),
        ]
    finally:
        for process in running.values():
            process.kill()
    assert emulator("status", "--json", "--state", str(tmp_path)).stdout == "[]\n"


def test_the_command_line_answers_in_json_and_refuses_on_one_line(tmp_path: Path) -> None:
    done = emulator("status", "zero2w", "--json", "--state", str(tmp_path))
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert {"board", "host", "port", "user", "key", "serial", "qmp", "pid", "state"} <= said.keys()
    assert said["state"] == str(tmp_path / "zero2w")
    refused = emulator("up", "pi9", "--json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
