"""What Orbax says on stderr that says nothing, and only that, is not said.

Where an array of a checkpoint cannot be written, Orbax gives up waiting for the other arrays; the
C++ threads that write those find nobody waiting and print a traceback each, "Event loop is closed",
which hides the run's own line. What was the matter is raised by `Checkpoints.save` and `wait`.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def silence() -> None:
    """Leaves that message out, from now on; harmless a second time."""
    hook = sys.unraisablehook
    if not (isinstance(hook, functools.partial) and hook.func is _hear):
        sys.unraisablehook = functools.partial(_hear, hook)


def _hear(otherwise: Callable[[Any], Any], unraisable: Any) -> None:
    """`sys.unraisablehook`: passes on all but the message that says nothing."""
    traceback = unraisable.exc_traceback
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = "" if traceback is None else traceback.tb_frame.f_code.co_filename
    nobody_waits = (
        isinstance(unraisable.exc_value, RuntimeError)
        and str(unraisable.exc_value) == "Event loop is closed"
        and unraisable.object is None
        and Path(where).parent.name == "asyncio"
    )
    if not nobody_waits:
        otherwise(unraisable)
