"""The optional dependencies: which extra of dtql-jax brings which package."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

from dtql_jax.errors import UserError

# extra -> modules that it brings
MODULES = {
    "envs": ("mujoco", "gymnasium_robotics"),
    "reports": ("matplotlib", "jinja2"),
    "video": ("mujoco", "gymnasium_robotics", "imageio", "imageio_ffmpeg"),
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
    "cluster": ("ray",),
    "behaviours": ("sbx",),
}


def require(*extras: str) -> None:
    """Raises UserError, with the command to install them, where modules of extras are missing."""
    lacking = [extra for extra in extras if any(not installed(name) for name in MODULES[extra])]
    if lacking:
        names = dict.fromkeys(m for extra in lacking for m in MODULES[extra] if not installed(m))
        verb = "is" if len(names) == 1 else "are"
        raise UserError(f"{' and '.join(names)} {verb} not installed; {hint(*lacking)}")


def installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    return find_spec(module) is not None


def hint(*extras: str) -> str:
    """The command that installs extras.

    >>> hint("envs", "reports")
    'run: pip install "dtql-jax[envs,reports]"'
    """
    return f'run: pip install "dtql-jax[{",".join(extras)}]"'


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Turns the ImportError of an optional module into a UserError that names its extra."""
    try:
        yield
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in MODULES.items() if module in modules), None)
        if extra is None:
            raise
        raise UserError(f"{module} is not installed; {hint(extra)}") from error
