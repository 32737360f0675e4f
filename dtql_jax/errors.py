"""Errors that commands show as one line, without a traceback."""

import difflib
import errno
import os
from collections.abc import Iterable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(ValueError):
    """Wrong input. The message is one line: what came, what was expected, what to do.

    Commands print it and exit with code 2; Python code catches it as a ValueError.
    """


class LostError(Exception):
    """Another host of the run is gone. The message is one line."""


def disk_trouble(error: BaseException) -> str:
    """Returns the system's message about a file that cannot be written; "" for other errors.

    Libraries that write files themselves put that message into a longer one.

    >>> disk_trouble(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device'
    >>> disk_trouble(RuntimeError("cannot flush (errno = 28, 'No space left on device')"))
    'No space left on device'
    >>> disk_trouble(OSError(errno.ENOENT, "No such file or directory"))
    ''
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in (*_FULL, *_FORBIDDEN):
        return os.strerror(number)
    messages = map(os.strerror, (*_FULL, *_FORBIDDEN))
    return next((message for message in messages if message in str(error)), "")


def is_forbidden(error: OSError) -> bool:
    """Whether a place can never be written, rather than not now."""
    return error.errno in _FORBIDDEN


def near_matches(name: str, known: Iterable[str]) -> str:
    """Returns 'did you mean a, b?' for the known names closest to `name`, else all known names.

    >>> near_matches("dtlq", ["dtql", "bc"])
    'did you mean dtql?'
    >>> near_matches("x", ["dtql", "bc"])
    'known: bc, dtql'
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(sorted(known))}"
