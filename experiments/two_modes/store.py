"""What a study has found so far as one file, so that a study that was stopped goes on."""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Found = dict[str, dict[str, np.ndarray]]  # "bandit/dtql" -> name -> array


def settings(config: Mapping[str, Any], job: str) -> str:
    """All settings that the result of a job ("bandit/dtql") depends on, as JSON."""
    part, name = job.split("/")
    own = {key: value for key, value in config[part].items() if key != "algorithms"}
    own |= {"entry": config[part]["algorithms"][name]}
    own |= {key: config[key] for key in ("seed", "seeds")}
    return json.dumps(own, sort_keys=True)


def save(path: Path, config: Mapping[str, Any], found: Found) -> None:
    """Writes all arrays, with the settings that they are of."""
    arrays: dict[str, np.ndarray] = {}
    for job, own in found.items():
        arrays[f"{job}/settings"] = np.array(settings(config, job))
        arrays |= {f"{job}/{name}": array for name, array in own.items()}
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def load(path: Path, config: Mapping[str, Any]) -> Found:
    """What `save` wrote of jobs whose settings are still those of `config`."""
    jobs = [f"{part}/{name}" for part in ("bandit", "maze") for name in config[part]["algorithms"]]
    found: Found = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for job in jobs:
                mark = f"{job}/settings"
                if mark not in file or str(file[mark]) != settings(config, job):
                    continue
                keys = [key for key in file.files if key.startswith(f"{job}/") and key != mark]
                found[job] = {key.removeprefix(f"{job}/"): file[key] for key in keys}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return {}
    return found
