"""A model directory as one tar file, the unit that is pushed to a device."""

import tarfile
from pathlib import Path


def write_archive(directory: Path, name: str, target: Path) -> None:
    """Write ``directory`` as ``name``/ into the tar file ``target``: no owner, no times, fixed modes."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, directory, name)
            for path in sorted(directory.iterdir()):
                _add(tar, path, f"{name}/{path.name}")
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
        return
    entry.mode, entry.size = 0o644, path.stat().st_size
    with path.open("rb") as stream:
        tar.addfile(entry, stream)
