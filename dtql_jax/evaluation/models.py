"""Compile a MuJoCo model once for many environments.

Gymnasium compiles an environment's XML at each make, which takes 0.1 s for a PointMaze and
0.4 s for FrankaKitchen, most of it in textures. A copy of a compiled model takes a tenth to a
third of that, and steps to the same bits.
"""

import contextlib
import copy
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def compiled_once(cache: dict[Any, Any]) -> Iterator[None]:
    """Within the block, MuJoCo copies models that `cache` holds instead of compiling them.

    Each environment still gets a model of its own, because some write into it. Does nothing
    before mujoco is imported: the first environment of a process is made as ever.

    Args:
      cache: models by their XML; filled here. The caller keeps it for as long as it makes
        environments: a model holds up to 60 MB.
    """
    mujoco = sys.modules.get("mujoco")
    if mujoco is None:
        yield
        return
    compile_model = mujoco.MjModel.from_xml_path

    def from_xml_path(path: str, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            return compile_model(path, *args, **kwargs)
        with open(path, "rb") as file:
            # The folder matters, because files named inside are found from there.
            key = os.path.dirname(path), file.read()
        if key not in cache:
            cache[key] = compile_model(path)
        return copy.copy(cache[key])

    mujoco.MjModel.from_xml_path = staticmethod(from_xml_path)
    try:
        yield
    finally:
        mujoco.MjModel.from_xml_path = staticmethod(compile_model)
