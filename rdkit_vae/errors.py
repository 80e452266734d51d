"""The errors that a user can cause; the command line prints them as one line."""


class RdvaeError(Exception):
    """Something that the user can put right, said in one line: what, which value, what to do."""

    exit_code = 2


class BadInput(RdvaeError):
    """An option, name or argument that cannot be used as given."""


class NotFinite(BadInput):
    """Numbers of a model, or measured on one, that are NaN or infinite: it has diverged."""


class BadData(RdvaeError):
    """A file or folder that is missing, damaged or of another format."""

    exit_code = 4


class Newer(BadData):
    """A sound file, written by a later release."""


class OtherKind(BadData):
    """A sound file of rdvae, but not of the kind that was asked for."""


class CannotWrite(BadData):
    """A file that cannot be written: no room on the disk, or no permission."""


def cause_of(error: OSError) -> str:
    """Why the system refused, in words; an error that a library raised has them elsewhere."""
    return error.strerror or str(error) or type(error).__name__
