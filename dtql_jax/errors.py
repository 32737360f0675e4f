"""Errors of one line, shown without a traceback; those that a user can mend have exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input. The message is one line: what came, what was expected, what to do.

    It is a ValueError, so code that uses the library can catch it as usual; the
    commands under `experiments/` print the line and exit with code 2.
    """


class LostError(Exception):
    """Another host of the run is gone; the message is one line."""


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
