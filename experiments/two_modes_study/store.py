"""What a study has found so far as one file, so that a study that was stopped goes on."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Found = dict[str, dict[str, np.ndarray]]  # "bandit/dtql" -> name -> array


def save(path: Path, config: Mapping[str, Any], found: Found) -> None:
    """Writes all arrays, and the configuration that they are of."""
    arrays = {"config": np.array(json.dumps(config, sort_keys=True))}
    for part, own in found.items():
        arrays |= {f"{part}/{name}": array for name, array in own.items()}
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def load(path: Path, config: Mapping[str, Any]) -> Found:
    """What `save` wrote, where it is of this configuration; else nothing."""
    found: Found = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["config"]) != json.dumps(config, sort_keys=True):
                return {}
            for key in file.files:
                part, _, name = key.rpartition("/")
                if part:
                    found.setdefault(part, {})[name] = file[key]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return {}
    return found
