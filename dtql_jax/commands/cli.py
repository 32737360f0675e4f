"""Flags, configuration, error lines and exit codes of all commands.

Exit codes: 0 success; 2 wrong input, one line on stderr; 3 the command cannot continue, the last
checkpoint is whole; 130 stopped by Ctrl-C, a checkpoint is saved.
"""

import contextlib
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from dtql_jax.errors import LostError, UserError, disk_trouble, near_matches
from dtql_jax.extras import named, require

if TYPE_CHECKING:
    from dtql_jax.training.progress import Progress

STOPPED, STUCK = 130, 3
_display: "Progress | None" = None  # opened by `launch` in a terminal


class StuckError(Exception):
    """The command cannot continue, although its input is right. The message is one line."""


# ------------------------------------------------------------------------------------------ launch


def launch(
    run: Callable[[], int | None],
    description: str | None,
    define: Callable[[list[str]], None] = lambda argv: None,
    argv: list[str] | None = None,
    live: bool = False,
    extras: Sequence[str] = (),
) -> None:
    """Parses the command line, runs a command and exits with its exit code.

    Args:
      run: the command; returns an exit code, or None for 0.
      description: text above the flags in --help.
      define: defines the command's flags.
      argv: the command line; by default that of the process.
      live: whether a terminal shows a progress display from the start.
      extras: optional dependencies that the command needs (`dtql_jax.extras`).
    """
    argv = list(sys.argv if argv is None else argv)
    asks = any(word in ("-h", "--help", "-help") for word in argv[1:])
    try:
        with _first_display(argv) if live and not asks else contextlib.nullcontext():
            define(argv)
            if asks:
                _print_help(description or "")
                sys.exit(0)
            rest = flags.FLAGS(argv)
            if len(rest) > 1:
                raise UserError(
                    f"unexpected argument {rest[1]!r}; options start with --, see --help"
                )
            require(*extras)
            with named():
                sys.exit(run() or 0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        line, code = failure
        print(f"error: {line}", file=sys.stderr, flush=True)
        if isinstance(error, LostError):
            os._exit(code)  # a normal exit would wait for the lost host
        sys.exit(code)


def explain(error: Exception) -> tuple[str, int] | None:
    """Returns (line for the user, exit code) of an expected failure, or None."""
    line, code = "", STUCK
    if isinstance(error, UserError | flags.Error):
        line, code = str(error), 2
    elif isinstance(error, StuckError | LostError):
        line = str(error)
    # JAX is not imported here, so its error is recognised by its text
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        line = "out of memory; expected settings that fit: a smaller batch_size, hidden_dim, "
        line += "num_candidates or seeds"
    elif isinstance(error, RuntimeError | OSError) and disk_trouble(error):
        place = getattr(error, "filename", None)
        line = f"{place}: " if place else ""
        line += f"{disk_trouble(error)}; expected a place that can be read and written, with room"
    return (" ".join(line.split()), code) if line else None


def _print_help(description: str) -> None:
    """Prints the flags of this package and the fields of the configuration."""
    print(description.strip())
    print("\nflags:")
    known = flags.FLAGS
    own = (__name__, sys.argv[0], "experiments.", "dtql_jax.commands.")
    found = {
        flag.name: flag
        for module, defined in known.flags_by_module_dict().items()
        if module.startswith(own)
        for flag in defined
        if flag.name.split(".")[0] != "config"
    }
    for name, flag in sorted(found.items()):
        default = "" if flag.default in (None, "") else f" (default: {flag.default})"
        print(f"  --{name}: {flag.help}{default}")
    if "config" in known:
        print("\n--config=FILE.py[:ARGUMENT] takes another configuration file. Its fields, here:")
        for name, value in fields(known["config"].value).items():
            print(f"  --config.{name}={value}")


# ----------------------------------------------------------------------------------- configuration


def define_config(argv: list[str]) -> None:
    """Defines --env, --preset, --algorithm, and --config with the configuration that they name.

    --config=FILE.py[:ARGUMENT] calls that file's get_config instead. Every field is a flag:
    --config.batch_size=512, --config.algorithm.alpha=5.
    """
    # imported here because it takes seconds, after the progress display has opened
    from dtql_jax.presets import get_config

    flags.DEFINE_string("env", "pointmaze-umaze", "Task, for example antmaze-umaze.")
    flags.DEFINE_string("preset", "auto", "quick, paper, full (point mazes), or auto.")
    flags.DEFINE_string("algorithm", "dtql", "Algorithm.")
    names = ("env", "preset", "algorithm")
    spec = ",".join(str(value_of(argv, name) or flags.FLAGS[name].default) for name in names)
    define_own_config(argv, lambda: get_config(spec))


def define_own_config(argv: list[str], default: Callable[[], ml_collections.ConfigDict]) -> None:
    """Defines --config, with the configuration of `default` or of the file that it names."""
    file = value_of(argv, "config")
    if file is None:
        config = default()
    else:
        config = _load(file)
        # `config_flags` would take the file's name for the configuration
        argv[:] = [w for w in argv if w.lstrip("-") not in ("config", f"config={file}", file)]
    known = fields(config)
    for word in argv[1:]:
        prefix, _, field = word.split("=")[0].partition("config.")
        if prefix in ("-", "--") and field not in known:
            raise UserError(
                f"the configuration has no field {field!r}; {near_matches(field, known)}"
            )
    config_flags.DEFINE_config_dict("config", config, sys_argv=argv)


def _load(spec: str) -> ml_collections.ConfigDict:
    """The configuration of FILE.py[:ARGUMENT]."""
    path, _, argument = spec.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config: no file {path}; expected FILE.py[:ARGUMENT] with a get_config")
    try:
        make = runpy.run_path(path)["get_config"]
        config = make(argument) if argument else make()
    except UserError:
        raise
    except Exception as error:  # the user's file may raise anything
        raise UserError(f"--config: {path} failed: {type(error).__name__}: {error}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"--config: get_config of {path} returned {type(config).__name__}")
    return config


def fields(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the fields of a ConfigDict as {"batch_size": 256, "algorithm.alpha": 1.0, ...}."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, ml_collections.ConfigDict)
        found |= fields(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def value_of(argv: list[str], name: str) -> str | None:
    """Returns the last value of a flag on a command line that is not parsed yet."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=True):
        bare = word.lstrip("-")
        if word.startswith("-") and bare.startswith(f"{name}="):
            found = bare.removeprefix(f"{name}=")
        elif word.startswith("-") and bare == name:
            found = following
    return found


# ------------------------------------------------------------------------------------ shared flags

_RUN_FIELDS = {"seeds": "seeds", "steps": "train_steps", "source": "source"}


def define_run_fields() -> None:
    """Defines --seeds, --steps and --source, short names of fields of the configuration."""
    flags.DEFINE_integer("seeds", None, "Number of seeds, trained in one program (config.seeds).")
    flags.DEFINE_integer("steps", None, "Training updates (config.train_steps).")
    flags.DEFINE_string("source", None, "Data: auto, minari, d4rl or generated (config.source).")


def set_run_fields(config: ml_collections.ConfigDict) -> None:
    """Copies the flags of `define_run_fields` to a configuration; UserError names the flag."""
    from dtql_jax.presets.parts import check_field

    for flag, field in _RUN_FIELDS.items():
        value = flags.FLAGS[flag].value
        if value is not None:
            check_field(field, value, config[field], name=f"--{flag}")
            config[field] = value


def define_run() -> None:
    """Defines --run, the folder of a run."""
    flags.DEFINE_string("run", None, "Folder of the run.")


def run_folder() -> Path:
    """Returns the folder that --run names; UserError where the flag is missing."""
    if not flags.FLAGS.run:
        raise UserError("--run is missing; expected the folder of a run")
    return Path(flags.FLAGS.run)


def define_hosts() -> None:
    """Defines --coordinator, --processes and --process, for a run on several hosts."""
    flags.DEFINE_string("coordinator", "", "Several hosts: HOST:PORT of the first, or auto.")
    flags.DEFINE_integer("processes", 1, "Several hosts: their number.")
    flags.DEFINE_integer("process", 0, "Several hosts: the number of this one, from 0.")


def join_hosts() -> None:
    """Joins the other hosts where the flags of `define_hosts` name them.

    Call it before `stop_requested`, because joining replaces the signal handlers.
    """
    values = flags.FLAGS
    if values.coordinator:
        from dtql_jax.training import hosts

        hosts.join(values.coordinator, values.processes, values.process)
    elif values.processes != 1 or values.process != 0:
        raise UserError("--coordinator is missing; expected HOST:PORT of process 0, or auto")


# --------------------------------------------------------------------------- display and interrupts


def define_display() -> None:
    """Defines --quiet and --verbose."""
    flags.DEFINE_boolean("quiet", False, "Only warnings and the result.")
    flags.DEFINE_boolean("verbose", False, "Lines with all metrics in place of the live view.")


def open_display(title: str, *facts: str) -> "Progress":
    """Returns the progress display that --quiet and --verbose ask for; use it as a context.

    Call it before slow imports. In a terminal `launch` has opened it already.
    """
    from dtql_jax.training.progress import Progress

    values = flags.FLAGS
    if values.quiet and values.verbose:
        raise UserError("--quiet and --verbose exclude each other")
    display = _display or Progress(values.quiet, values.verbose)
    display.about(title, *facts)
    display.start("start")
    return display


@contextlib.contextmanager
def _first_display(argv: list[str]) -> Iterator[None]:
    """Opens the progress display in a terminal."""
    global _display
    if not sys.stderr.isatty() or {"--quiet", "-quiet", "--verbose", "-verbose"} & set(argv):
        yield
        return
    from dtql_jax.training.progress import Progress

    with Progress() as _display:
        _display.about(Path(argv[0]).stem)
        _display.start("start")
        yield


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C (or SIGTERM) came; a second one interrupts."""
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("stopping: saving a checkpoint first (again to stop at once)", file=sys.stderr)

    earlier = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
