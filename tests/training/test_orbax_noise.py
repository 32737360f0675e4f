"""Orbax's empty message is left out, and nothing else."""

import gc
import logging
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from dtql_jax.training import orbax_noise


def unraisable(call: Any, subject: Any = None) -> SimpleNamespace:
    """What the interpreter passes to the hook of an error that `call` raises."""
    try:
        call()
    except Exception as error:
        return SimpleNamespace(
            exc_type=type(error),
            exc_value=error,
            exc_traceback=error.__traceback__,
            err_msg=None,
            object=subject,
        )
    raise AssertionError("nothing was raised")


def closed_loop() -> None:
    import asyncio

    loop = asyncio.new_event_loop()
    loop.close()
    loop.call_soon_threadsafe(print)


def same_words() -> None:
    raise RuntimeError("Event loop is closed")


CASES = [
    (closed_loop, None, False),
    (closed_loop, "a method of somebody's", True),
    (same_words, None, True),
    (lambda: 1 / 0, None, True),
]


@pytest.mark.parametrize(("call", "subject", "heard"), CASES)
def test_what_is_heard(
    call: Any, subject: Any, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    orbax_noise.silence()
    orbax_noise.silence()
    sys.unraisablehook(unraisable(call, subject))  # type: ignore[arg-type]
    assert len(found) == heard


NAME = "/runs/a/checkpoints/400.orbax-checkpoint-tmp/state/d/80b6"
TASK = "future: <Task coro=<Store.write() done, defined at /a/orbax/checkpoint/_src/a.py:1>"
RECORDS = [
    ("Task exception was never retrieved", ValueError(f"Failed writing {NAME}"), False),
    (f"_SignalingThread.run() raised an exception: Failed writing {NAME}", None, False),
    (f"Task exception was never retrieved\n{TASK}", OSError(27, "File too large"), False),
    ("Task exception was never retrieved", ValueError("somebody's"), True),
    (TASK, OSError(27, "File too large"), True),
    (f"Failed writing {NAME}", None, True),
]


@pytest.mark.parametrize(("message", "error", "heard"), RECORDS)
def test_what_is_logged(
    message: str, error: Exception | None, heard: bool, caplog: pytest.LogCaptureFixture
) -> None:
    orbax_noise.silence()
    logging.getLogger("asyncio").error(message, exc_info=error)
    assert len(caplog.records) == heard


def test_a_write_that_never_began_is_not_warned_of() -> None:
    async def async_serialize_from_host() -> None: ...

    async def of_somebody() -> None: ...

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        orbax_noise.silence()
        for never_awaited in (async_serialize_from_host, of_somebody):
            # the name that the interpreter shows, without the test's own
            never_awaited.__qualname__ = never_awaited.__name__
            never_awaited()
            gc.collect()
    assert [str(warning.message) for warning in heard] == [
        "coroutine 'of_somebody' was never awaited"
    ]
