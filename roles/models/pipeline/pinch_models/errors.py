"""The failures a person can do something about. Each message is one sentence."""

import errno


class ModelError(Exception):
    """What was found, what was expected, what to do."""


class PinError(ModelError):
    """The pins (built in or the user's own) do not say what they must."""


class FetchError(ModelError):
    """A file could not be had as pinned."""


class BuildError(ModelError):
    """A checkpoint or graph cannot be made into a model directory."""


class VerifyError(ModelError):
    """A model directory is not what its manifest says."""


class StorageError(ModelError):
    """The cache or the output directory cannot be written."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def storage_error(error: OSError, where: object) -> StorageError:
    """Return the sentence for a write below ``where`` that failed with ``error``."""
    if error.errno in _FULL:
        return StorageError(
            f"no space is left for the model under {where} ({error.strerror}); a build needs about "
            "300 MB there: free some, or set PINCH_CACHE to a larger disk. What was built before is untouched"
        )
    return StorageError(f"{where} cannot be written ({error}); give a directory that this user may write to")
