"""What makes a tree of packages an image: files, accounts and units, the jobs put off, and a last look at all of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .architecture import ARCHITECTURES
from .chroot import ELF_MAGIC, Chroot
from .definition import Definition, Toolbox
from .failure import ImageError

CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# Modules that are there to be found; a list in initramfs-tools' own file would load every one of them at every boot.
INITRAMFS_HOOK = """#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules {modules}
"""


def write_files(chroot: Chroot, definition: Definition) -> None:
    """Write the definition's files, and empty what each board has to make for itself."""
    root = chroot.root
    for file in definition.files:
        path = root / file.path[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.content, encoding="utf-8")
        path.chmod(file.mode)
    (root / "etc/hostname").write_text(f"{definition.hostname}\n", encoding="ascii")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {definition.hostname}\n::1 localhost\n", "ascii")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("/run/systemd/resolve/stub-resolv.conf")
    hook = root / "etc/initramfs-tools/hooks/pinch"
    hook.write_text(INITRAMFS_HOOK.format(modules=" ".join(definition.modules)), encoding="ascii")
    hook.chmod(0o755)
    settings = root / "etc/initramfs-tools/conf.d/pinch.conf"
    settings.write_text("MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\n", encoding="ascii")


def make_accounts(chroot: Chroot, definition: Definition, programs: list[str]) -> None:
    """Create the definition's accounts, locked for passwords. Raises ImageError."""
    for account in definition.accounts:
        groups = ["--groups", ",".join(account.groups)] if account.groups else []
        chroot.run(["useradd", "--create-home", "--shell", account.shell, *groups, account.name], programs)
        if account.sudo:
            rule = chroot.root / f"etc/sudoers.d/010-{account.name}"
            rule.write_text(f"{account.name} {account.sudo}\n", encoding="ascii")
            rule.chmod(0o440)


def set_units(chroot: Chroot, definition: Definition, programs: list[str]) -> None:
    """Enable and disable units and choose the default target. Raises ImageError."""
    chroot.run(["systemctl", "enable", *definition.enable], programs)
    chroot.run(["systemctl", "disable", *definition.disable], programs)
    chroot.run(["systemctl", "set-default", definition.default_target], programs)


def do_deferred(chroot: Chroot, toolbox: Toolbox, programs: list[str]) -> None:
    """Do once, natively, what was put off while packages were configured. Raises ImageError."""
    kernel = kernel_version(chroot.root)
    chroot.run(["update-ca-certificates", "--fresh"], programs)
    chroot.run(["systemd-hwdb", "update", "--usr"], programs)
    chroot.run(["depmod", kernel], programs)
    initramfs = [path for path in programs if Path(path).name in toolbox.initramfs]
    chroot.run(["update-initramfs", "-c", "-k", kernel], initramfs, aside=True)
    # Bytecode knows the Python release, not the processor; -s and -p make its paths the board's.
    libraries = sorted(f"/mnt/{path.relative_to(chroot.root)}" for path in (chroot.root / "usr/lib").glob("python3*"))
    chroot.run_in_toolbox(["python3", "-m", "compileall", "-q", "-j", "2", "-s", "/mnt", "-p", "/", *libraries])


def clean(chroot: Chroot) -> None:
    """Remove what only this build needed and what two boards must not share."""
    root = chroot.root
    for pattern in (
        "etc/ssh/ssh_host_*",
        "var/cache/apt/*",
        "var/cache/debconf/*-old",
        "var/lib/apt/lists/*",
        "var/lib/dpkg/*-old",
        "var/log/*.log",
        "var/log/apt/*",
        "etc/apt/apt.conf.d/*mmdebstrap*",
        "etc/dpkg/dpkg.cfg.d/*mmdebstrap*",
        "var/lib/systemd/random-seed",
    ):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "etc/machine-id").write_text("", encoding="ascii")


def mark_updated(root: Path) -> None:
    """Say, as systemd-update-done(8) does, that what a first boot would do for a changed /usr has been done.

    Whatever changes /usr after this makes every card rebuild its caches of libraries and journal messages.
    """
    for folder in ("etc", "var"):
        (root / folder / ".updated").touch()


def check(chroot: Chroot, definition: Definition, programs: list[str]) -> None:
    """Refuse a tree or an initramfs with a foreign program, a missing initramfs, or a job that was never done."""
    root = chroot.root
    kernel = kernel_version(root)
    boot = (f"boot/initrd.img-{kernel}", f"boot/vmlinuz-{kernel}", f"lib/modules/{kernel}/modules.dep")
    for needed in (*boot, CERTIFICATES):
        if not (root / needed).exists():
            raise ImageError(f"The image has no /{needed}, although every step ended well; its build log says more.")
    unpacked = root / "root/initramfs"
    chroot.run(["unmkinitramfs", f"/boot/initrd.img-{kernel}", "/root/initramfs"], programs)
    own = ARCHITECTURES[definition.architecture].elf
    for path in _elves(root):
        with path.open("rb") as file:
            if file.read(20)[18:] != own:
                raise ImageError(
                    f"/{path.relative_to(root)} is no {definition.architecture} program: a stand-in got into the image."
                )
    shutil.rmtree(unpacked)


def kernel_version(root: Path) -> str:
    """Return the release of the one kernel in the tree. Raises ImageError."""
    found = sorted(path.name for path in (root / "usr/lib/modules").iterdir())
    if len(found) != 1:
        raise ImageError(f"The image holds kernels {', '.join(found) or 'none'}, expected one; correct packages.")
    return found[0]


def _elves(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                if file.read(4) == ELF_MAGIC:
                    yield path
