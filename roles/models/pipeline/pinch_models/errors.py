"""The failures a person can do something about."""


class ModelError(Exception):
    """One sentence: what was found, what was expected, what to do."""


class PinError(ModelError):
    """The pins (built in or the user's own) do not say what they must."""


class FetchError(ModelError):
    """A file could not be had from any source, or not as pinned."""


class BuildError(ModelError):
    """A checkpoint or graph cannot be made into a model directory."""


class VerifyError(ModelError):
    """A model directory is not what its manifest says."""
