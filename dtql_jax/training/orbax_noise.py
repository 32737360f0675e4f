"""What Orbax says on stderr that the run says itself, and only that, is not said.

Where an array of a checkpoint cannot be written, Orbax gives up waiting for the other arrays. Each
of those leaves a message of its own: C++ threads that find nobody waiting ("Event loop is
closed"), tasks whose error nobody asks for, writes that never began, threads that log theirs. What
was the matter is raised by `Checkpoints.save` and `wait`, and becomes one line.
"""

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_UNASKED = ("exception was never retrieved", "_SignalingThread.run() raised")
_NEVER_BEGUN = r"coroutine 'async_serialize.*' was never awaited"
# in the name of every file of a checkpoint under way; of a task of Orbax, the file that defines it
_WRITING = ("orbax-checkpoint-tmp", "/orbax/checkpoint/_src/")


def silence() -> None:
    """Leaves these messages out, from now on; harmless a second time."""
    hook = sys.unraisablehook
    if not (isinstance(hook, functools.partial) and hook.func is _hear):
        sys.unraisablehook = functools.partial(_hear, hook)
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_news)
    warnings.filterwarnings("ignore", _NEVER_BEGUN, RuntimeWarning)


def _is_news(record: logging.LogRecord) -> bool:
    """Filter of a logger: False for the error of a checkpoint's array that nobody asked for."""
    error = record.exc_info[1] if record.exc_info else None
    text = f"{record.getMessage()} {error}"
    of_orbax = any(words in text for words in _WRITING)
    return not (of_orbax and any(words in text for words in _UNASKED))


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
