"""DTQL's scores in the paper.

Source: Chen, Wang, Zhou, "Diffusion Policies creating a Trust Region for Offline Reinforcement
Learning", NeurIPS 2024, arXiv 2405.19690, Table 1: D4RL's normalised scores of the last
checkpoint, mean of 5 seeds, acting by softmax(Q) over 1024 candidates. The AntMaze and Kitchen
rows agree with the paper's domain means (73.6 and 71.8), but are known here from citations only.
"""

from typing import NamedTuple

PAPER = "Chen et al. 2024, arXiv 2405.19690, Table 1"
AS_CITED = "Chen et al. 2024, arXiv 2405.19690, as cited"


class Published(NamedTuple):
    """One score of the paper."""

    score: float  # D4RL's normalised score, 0 to 100 and above
    dataset: str  # D4RL's name of the dataset
    source: str  # paper and table


# (task, version of D4RL's dataset) -> score
_SCORES = {
    ("halfcheetah-medium", "v2"): 57.9,
    ("halfcheetah-medium-replay", "v2"): 50.9,
    ("halfcheetah-medium-expert", "v2"): 92.7,
    ("hopper-medium", "v2"): 99.6,
    ("hopper-medium-replay", "v2"): 100.0,
    ("hopper-medium-expert", "v2"): 109.3,
    ("walker2d-medium", "v2"): 89.4,
    ("walker2d-medium-replay", "v2"): 88.5,
    ("walker2d-medium-expert", "v2"): 110.0,
    ("antmaze-umaze", "v0"): 94.8,
    ("antmaze-umaze-diverse", "v0"): 78.8,
    ("antmaze-medium-play", "v0"): 79.6,
    ("antmaze-medium-diverse", "v0"): 82.2,
    ("antmaze-large-play", "v0"): 52.0,
    ("antmaze-large-diverse", "v0"): 54.0,
    ("pen-human", "v1"): 64.1,
    ("pen-cloned", "v1"): 81.3,
    ("kitchen-complete", "v0"): 80.8,
    ("kitchen-partial", "v0"): 74.4,
    ("kitchen-mixed", "v0"): 60.2,
}


def paper_score(task: str, source: str, version: str) -> Published | None:
    """Returns DTQL's score in the paper; None unless task, source and version are the paper's.

    >>> paper_score("hopper-medium", "d4rl", "v2").score
    99.6
    >>> paper_score("hopper-medium", "minari", "v0") is None
    True
    """
    name = task.removesuffix(f"-{version}")
    if source != "d4rl" or (name, version) not in _SCORES:
        return None
    source = AS_CITED if name.startswith(("antmaze", "kitchen")) else PAPER
    return Published(_SCORES[name, version], f"{name}-{version}", source)
