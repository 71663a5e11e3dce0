"""Errors that a user can act on: what is wrong, where, and what to do about it."""

import difflib
from collections.abc import Iterable


class JaxsegError(ValueError):
    """An error of the user's input; the verbs print its message without a traceback."""


class ConfigError(JaxsegError):
    """A configuration field that is unknown, missing, or has a value that is not allowed."""


class DataError(JaxsegError):
    """A data set, or one of its files, that cannot be used as it is."""


class CheckpointError(JaxsegError):
    """A checkpoint that is damaged, incomplete, or of another model."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Ends an error message: the nearest allowed names, or all of them where none is near.

    >>> did_you_mean("PSPHed", ["PSPHead", "FCNHead"])
    'Did you mean PSPHead?'
    """
    names = sorted(str(candidate) for candidate in allowed)
    folded = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).lower(), folded, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(folded[candidate] for candidate in near)}?"
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return f"Allowed: {shown or 'none'}."
