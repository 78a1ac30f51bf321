"""The image's tree written to a disk, and everything a boot needs beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from .chroot import Chroot
from .definition import Definition
from .finish import kernel_version

# Names in a finished image's folder.
DISK, FIRMWARE, KERNEL, INITRAMFS = "root.raw", "firmware.raw", "vmlinuz", "initrd.img"
MANIFEST = "manifest.json"
# Where a Pi has the FAT that it boots from, since Debian 12.
FIRMWARE_DIR = "boot/firmware"
# Any fixed namespace: the same image gets the same file system id.
NAMESPACE = uuid.UUID("7a1f0a4e-6f0f-5c62-9f0b-2f2f6f1e52a7")


def write_firmware(chroot: Chroot, definition: Definition, key: str, target: Path) -> None:
    """Write what a Pi boots from as a FAT disk into the folder `target`; the tree keeps the place it is mounted on."""
    folder = chroot.root / FIRMWARE_DIR
    serial = uuid.uuid5(NAMESPACE, key).hex[:8]
    command = ["mkfs.vfat", "--invariant", "-F", "32", "-n", definition.firmware_label, "-i", serial]
    chroot.run_in_toolbox([*command, "-C", f"/srv/{FIRMWARE}", str(definition.firmware_bytes >> 10)], target)
    files = [f"/mnt/{FIRMWARE_DIR}/{path.name}" for path in sorted(folder.iterdir())]
    chroot.run_in_toolbox(["mcopy", "-s", "-m", "-i", f"/srv/{FIRMWARE}", *files, "::"], target)
    shutil.rmtree(folder)
    folder.mkdir()


def write_disk(chroot: Chroot, definition: Definition, key: str, target: Path) -> None:
    """Write the tree as one sparse ext4 disk into the folder `target`, kernel and initramfs beside it."""
    kernel = kernel_version(chroot.root)
    shutil.copyfile(chroot.root / f"boot/vmlinuz-{kernel}", target / KERNEL)
    shutil.copyfile(chroot.root / f"boot/initrd.img-{kernel}", target / INITRAMFS)
    identity = str(uuid.uuid5(NAMESPACE, key))
    command = ["mke2fs", "-q", "-t", "ext4", "-L", definition.disk_label, "-U", identity]
    # Nothing is left for the board's kernel to initialise in the background.
    command += ["-E", f"hash_seed={identity},lazy_itable_init=0,lazy_journal_init=0", "-d", "/mnt"]
    chroot.run_in_toolbox([*command, f"/srv/{DISK}", f"{definition.disk_bytes >> 10}k"], target)


def write_manifest(target: Path, definition: Definition, key: str, packages: dict[str, str], seconds: float) -> None:
    """Write what the image is: definition, packages with versions, and size and sha256 of each file."""
    files = {}
    for name in (DISK, FIRMWARE, KERNEL, INITRAMFS):
        with (target / name).open("rb") as file:
            files[name] = {
                "bytes": (target / name).stat().st_size,
                "bytes_on_disk": (target / name).stat().st_blocks * 512,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
    manifest = {
        "name": definition.name,
        "key": key,
        "suite": definition.suite,
        "architecture": definition.architecture,
        "build_seconds": round(seconds, 1),
        "files": files,
        "packages": packages,
    }
    (target / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(image: Path) -> dict[str, Any]:
    """Return the manifest of a finished image."""
    manifest: dict[str, Any] = json.loads((image / MANIFEST).read_text(encoding="utf-8"))
    return manifest
