"""The errors that a user can cause; the command line prints each on one line."""


class RdvaeError(Exception):
    """An error the user can fix. The message is one line: what, which value, what to do."""

    exit_code = 2


class BadInput(RdvaeError):
    """An option, name or argument that cannot be used as given."""


class NotNamed(BadInput):
    """Code of the user's own that a file names and the user did not."""


class NotFinite(BadInput):
    """A weight of a model, or a number measured on it, is NaN or infinite: it has diverged."""


class BadData(RdvaeError):
    """A file or folder that is missing, damaged or of another format."""

    exit_code = 4


class Newer(BadData):
    """An intact file that a later release wrote."""


class OtherKind(BadData):
    """An intact file of rdvae, but not of the requested kind."""


class CannotWrite(BadData):
    """A file that cannot be written, for example because the disk is full."""


class StoreFails(BadData):
    """An object store that does not answer, or refuses."""


def in_line(error: Exception) -> str:
    """Returns the start of an error's message on one line, or its type if it has none."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def cause_of(error: OSError) -> str:
    """Returns the reason in words, also for errors that libraries raised without `strerror`."""
    return error.strerror or str(error) or type(error).__name__
