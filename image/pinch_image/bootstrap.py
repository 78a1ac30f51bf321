"""From package names to a tree of configured packages.

mmdebstrap resolves and downloads; the toolbox's dpkg unpacks all packages at once, natively; the image's own dpkg then
configures them in its chroot, where the toolbox's programs stand in for emulated ones and slow jobs are put off
(see `finish`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .chroot import Chroot
from .definition import Definition, Toolbox
from .failure import ImageError

ARCHIVES = Path("var/cache/apt/archives")
# apt's list of what belongs in the image, and the folder it is asked about; both only while packages are downloaded.
PLANNED, NOTHING = ARCHIVES / "planned", ARCHIVES / "nothing"
# Debian writes it: everything that may be called without being depended on.
ESSENTIAL = "?essential"
# Configured first, as everything else's maintainer scripts lean on them.
FIRST = (("base-passwd", "base-files"), ("libc6", "perl-base", "mawk", "dpkg"))
# Bookworm's removes the links at the root that belong to no package, and the native loader is found by one of them.
REMOVES_LINKS = "usr-is-merged"
ATTEMPTS = 3
# What Debian publishes beside a release, and mmdebstrap takes unless it is told otherwise.
POCKETS = ("updates", "security")
POLICY = "#!/bin/sh\nexit 101\n"


def mmdebstrap(
    definition: Definition, architecture: str, include: str, target: Path, hooks: Sequence[str]
) -> list[str]:
    """Return the command that extracts `include` into `target`; the mirror is the machine's own choice."""
    left_out = [pocket for pocket in POCKETS if pocket not in definition.pockets]
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=extract",
        "--format=directory",
        f"--architectures={architecture}",
        f"--components={','.join(definition.components)}",
        f"--include={include}",
        "--aptopt=Acquire::Retries 5",
        "--aptopt=Acquire::http::Timeout 60",
        "--skip=download/empty,cleanup/apt/cache",
        f"--setup-hook={_merge_usr(architecture)}",
        *(f"--setup-hook=sed -i '/ {definition.suite}-{pocket} /d' \"$1\"/etc/apt/sources.list" for pocket in left_out),
        *hooks,
        definition.suite,
        str(target),
    ]
    if mirror := os.environ.get("PINCH_DEBIAN_MIRROR"):
        command.append(mirror)
    return command


def _merge_usr(architecture: str) -> str:
    """Return the command that makes /bin and its like links into /usr, as packages expect before any of them is there.

    From Debian 13 on a package brings these links, before that whoever makes the tree does.
    """
    folders = "bin sbin lib lib64" if architecture == "amd64" else "bin sbin lib"
    return f'for name in {folders}; do mkdir -p "$1/usr/$name" && ln -s "usr/$name" "$1/$name"; done'


def make_toolbox(definition: Definition, toolbox: Toolbox, architecture: str, target: Path, log: Path) -> None:
    """Extract the toolbox's packages into `target`. Raises ImageError."""
    include = ",".join(toolbox.packages)
    _download(mmdebstrap(definition, architecture, include, target, ()), target, log)
    shutil.rmtree(target / ARCHIVES)
    for folder in ("mnt", "srv", "proc", "sys", "dev", "run", "tmp"):
        (target / folder).mkdir(exist_ok=True)


def download_packages(definition: Definition, target: Path, kept: Path, log: Path) -> None:
    """Fill `target` with the essential packages' files and all packages' archives. Raises ImageError.

    `kept` is a folder of archives from earlier builds: what is in there is not downloaded again.
    """
    archives = shlex.quote(str(kept))
    place = f'"$1"/{ARCHIVES}'
    names = " ".join(shlex.quote(name) for name in definition.packages)
    apt = f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes install {shlex.quote(ESSENTIAL)} {names}'
    # apt prints what it has yet to fetch, which is everything where it looks for archives in an empty folder.
    empty = f'mkdir -p "$1"/{NOTHING}/partial && {apt} --print-uris -o Dir::Cache::archives="$1"/{NOTHING}'
    hooks = (
        f"--setup-hook=mkdir -p {archives} {place} && cp -al {archives}/. {place}",
        f"--extract-hook={apt} --download-only",
        f'--extract-hook={empty} > "$1"/{PLANNED}',
    )
    _download(mmdebstrap(definition, definition.architecture, ESSENTIAL, target, hooks), target, log)
    planned = archive_names((target / PLANNED).read_text(encoding="utf-8"))
    (target / PLANNED).unlink()
    shutil.rmtree(target / NOTHING)
    for archive in (target / ARCHIVES).glob("*.deb"):
        if archive.name not in planned:
            # Of an earlier build: unpacked, it would be in the image, or take the place of its own newer version.
            archive.unlink()
        elif not (kept / archive.name).exists():
            os.link(archive, kept / archive.name)


def archive_names(printed: str) -> set[str]:
    """Return the names of the archives that `apt-get --print-uris` says it would fetch."""
    return {line.split()[1] for line in printed.splitlines() if line.startswith("'")}


def unpack(chroot: Chroot, definition: Definition) -> None:
    """Unpack all archives natively, with their preinst scripts run in the image's tree. Raises ImageError."""
    dpkg = chroot.root / "var/lib/dpkg"
    (dpkg / "available").touch()
    rules = [f"--path-exclude={pattern}" for pattern in definition.exclude]
    rules += [f"--path-include={pattern}" for pattern in definition.include]
    forces = "--force-architecture,depends,unsafe-io".replace(",", " --force-").split()
    archives = sorted(f"/mnt/{ARCHIVES}/{path.name}" for path in (chroot.root / ARCHIVES).glob("*.deb"))
    chroot.run_in_toolbox(["dpkg", "--root=/mnt", *forces, *rules, "--unpack", *archives])
    # The board's own dpkg leaves the same files out, when packages are upgraded.
    config = chroot.root / "etc/dpkg/dpkg.cfg.d/10-pinch"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("".join(f"{rule[2:]}\n" for rule in rules), encoding="utf-8")


def configure(chroot: Chroot, toolbox: Toolbox) -> None:
    """Configure all unpacked packages in the image's tree, slow jobs left out. Raises ImageError."""
    programs = chroot.native_programs(but=toolbox.emulated)
    idle = [f"/{path.relative_to(chroot.root)}" for job in toolbox.deferred for path in chroot.root.glob(job[1:])]
    if not idle:
        raise ImageError(
            f"None of the deferred programs ({', '.join(toolbox.deferred)}) is in the image; correct toolbox.toml."
        )
    programs = [path for path in programs if path not in idle]
    # Nothing is started in a chroot.
    policy = chroot.root / "usr/sbin/policy-rc.d"
    policy.write_text(POLICY, encoding="ascii")
    policy.chmod(0o755)
    if (chroot.root / f"var/lib/dpkg/info/{REMOVES_LINKS}.list").exists():
        chroot.run(["dpkg", "--force-depends", "--configure", REMOVES_LINKS])
        chroot.open_for_native()
    for names in FIRST:
        chroot.run(["dpkg", "--force-depends", "--configure", *names], programs, idle)
    chroot.run(["dpkg", "--force-unsafe-io", "--configure", "-a"], programs, idle)
    policy.unlink()


def package_versions(root: Path) -> dict[str, str]:
    """Return what is installed in the tree: name → version. Raises ImageError if a package is only half there."""
    versions = {}
    for paragraph in (root / "var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if not fields:
            continue
        if fields["Status"] != "install ok installed":
            raise ImageError(
                f"Package {fields['Package']} ended as {fields['Status']!r}, expected 'install ok installed'."
            )
        versions[fields["Package"]] = fields["Version"]
    return dict(sorted(versions.items()))


def _download(command: list[str], target: Path, log: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        shutil.rmtree(target, ignore_errors=True)
        with log.open("ab") as output:
            output.write(f"\n$ {shlex.join(command)}\n".encode())
            output.flush()
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            ).returncode
        if not status:
            return
        if attempt < ATTEMPTS:
            sys.stderr.write(f"image: downloading packages failed (attempt {attempt} of {ATTEMPTS}), trying again\n")
    end = log.read_text(encoding="utf-8", errors="replace").splitlines()
    sys.stderr.write("\n".join(end[-15:]) + "\n")
    if any("No space left" in line for line in end):
        raise ImageError("The disk filled up while packages were downloaded: free some, or set PINCH_CACHE elsewhere.")
    raise ImageError(
        f"Debian's packages could not be fetched in {ATTEMPTS} attempts (output above, all of it in {log}): check the "
        "network, or name a mirror in PINCH_DEBIAN_MIRROR."
    )
