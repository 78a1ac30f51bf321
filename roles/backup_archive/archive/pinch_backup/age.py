"""Encryption by the program `age`: plaintext passes through pipes and is never a file."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import BackupError

HEADER = b"age-encryption.org/v1\n"
REST = 2**16

_EXPLAINED = (
    (
        "no identity matched",
        "none of the keys in the identity file opens it; take that of one of its recipients",
    ),
    ("unexpected EOF", "it ends too early; fetch the whole file again"),
    ("failed to decrypt and authenticate payload", "it was cut or changed; fetch the whole file again"),
    ("failed to read header", "it is damaged, or no file of age; fetch it again"),
    ("malformed", "a recipient or an identity is none; expected age1… or ssh-ed25519, and a file of age-keygen"),
)


def explain(said: str) -> str:
    """Return what age said, with what to do about it where that is known."""
    plain = " ".join(line.removeprefix("age: ") for line in said.splitlines() if "report unexpected" not in line)
    plain = plain.removeprefix("error: ").strip()
    return next((f"{advice} (age: {plain})" for mark, advice in _EXPLAINED if mark in plain), f"age: {plain}")


@contextmanager
def encrypted(program: str, recipients: Sequence[str], file: Path) -> Iterator[IO[bytes]]:
    """Yield a stream whose bytes arrive encrypted in the new `file`.

    Raises:
        BackupError: age is missing, or refuses a recipient.
    """
    command = [program, "--encrypt", *(word for one in recipients for word in ("--recipient", one))]
    with tempfile.TemporaryFile() as said:
        with file.open("xb") as out:
            file.chmod(0o600)
            process = _start(command, said, stdin=subprocess.PIPE, stdout=out)
            assert process.stdin is not None
            try:
                yield process.stdin
                process.stdin.close()
            except BrokenPipeError:
                process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
        if process.wait():
            raise BackupError(f"nothing was encrypted: {_words(said)}")


@contextmanager
def decrypted(program: str, identity: Path, file: Path) -> Iterator[IO[bytes]]:
    """Yield the plaintext of `file` as a stream; it counts only when the block ends without an error.

    Raises:
        BackupError: wrong key, damaged or cut file, no age.
    """
    command = [program, "--decrypt", "--identity", str(identity), str(file)]
    with tempfile.TemporaryFile() as said:
        process = _start(command, said, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            yield process.stdout
            # The last piece is what proves the file whole.
            while process.stdout.read(REST):
                pass
        except BackupError:
            process.stdout.close()
            # A stream that age broke off is no archive either; its word says why.
            if process.wait() > 0:
                raise BackupError(f"{file} cannot be opened: {_words(said)}") from None
            raise
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
        if process.wait():
            raise BackupError(f"{file} cannot be opened: {_words(said)}")


def _start(command: Sequence[str], said: IO[bytes], stdin: int, stdout: IO[bytes] | int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said)
    except OSError as error:
        raise BackupError(
            f"the program {command[0]} cannot be started ({error.strerror}); install the package age on the controller"
        ) from None


def _words(said: IO[bytes]) -> str:
    said.seek(0)
    return explain(said.read().decode("utf-8", "replace"))
