"""DQL's settings by task (Wang, Hunt, Zhou 2023, arXiv 2208.06193, appendix), as plain numbers.

Keys are task names without the version of their files. Batch 256, 5 diffusion steps, discount 0.99
and tau 0.005 are the same everywhere: the algorithm's defaults. Fields of a task:

| field | meaning |
|---|---|
| learning_rate | of the actor; the critics' is 3e-4 everywhere |
| eta | weight of the Q loss |
| max_q_backup | whether targets take the best of 10 next actions |
| epochs | of 1000 updates |
| grad_norm | largest gradient norm of actor and critics |
| reward | "none", "4(r - 0.5)", or "standardised" with the dataset's mean and deviation |
| reward_scale, reward_shift | the same as r * scale + shift; None where the dataset decides |
"""

from typing import Any

_REWARDS: dict[str, tuple[float | None, float | None]] = {
    "none": (1.0, 0.0),
    "4(r - 0.5)": (4.0, -2.0),
    "standardised": (None, None),
}


def _task(
    learning_rate: float,
    eta: float,
    max_q_backup: bool,
    reward: str,
    epochs: int,
    grad_norm: float,
) -> dict[str, Any]:
    scale, shift = _REWARDS[reward]
    return {
        "learning_rate": learning_rate,
        "eta": eta,
        "max_q_backup": max_q_backup,
        "reward": reward,
        "reward_scale": scale,
        "reward_shift": shift,
        "epochs": epochs,
        "grad_norm": grad_norm,
    }


_SHIFTED = "4(r - 0.5)"

DQL_TASKS: dict[str, dict[str, Any]] = {
    "halfcheetah-medium": _task(3e-4, 1.0, False, "none", 2000, 9.0),
    "halfcheetah-medium-replay": _task(3e-4, 1.0, False, "none", 2000, 2.0),
    "halfcheetah-medium-expert": _task(3e-4, 1.0, False, "none", 2000, 7.0),
    "hopper-medium": _task(3e-4, 1.0, False, "none", 2000, 9.0),
    "hopper-medium-replay": _task(3e-4, 1.0, False, "none", 2000, 4.0),
    "hopper-medium-expert": _task(3e-4, 1.0, False, "none", 2000, 5.0),
    "walker2d-medium": _task(3e-4, 1.0, False, "none", 2000, 1.0),
    "walker2d-medium-replay": _task(3e-4, 1.0, False, "none", 2000, 4.0),
    "walker2d-medium-expert": _task(3e-4, 1.0, False, "none", 2000, 5.0),
    "antmaze-umaze": _task(3e-4, 0.5, False, _SHIFTED, 1000, 2.0),
    "antmaze-umaze-diverse": _task(3e-4, 2.0, True, _SHIFTED, 1000, 3.0),
    "antmaze-medium-play": _task(1e-3, 2.0, True, _SHIFTED, 1000, 2.0),
    "antmaze-medium-diverse": _task(3e-4, 3.0, True, _SHIFTED, 1000, 1.0),
    "antmaze-large-play": _task(3e-4, 4.5, True, _SHIFTED, 1000, 10.0),
    "antmaze-large-diverse": _task(3e-4, 3.5, True, _SHIFTED, 1000, 7.0),
    "pen-human": _task(3e-5, 0.15, False, "standardised", 1000, 7.0),
    "pen-cloned": _task(3e-5, 0.1, False, "standardised", 1000, 8.0),
    "kitchen-complete": _task(3e-4, 0.005, False, "none", 250, 9.0),
    "kitchen-partial": _task(3e-4, 0.005, False, "none", 1000, 10.0),
    "kitchen-mixed": _task(3e-4, 0.005, False, "none", 1000, 10.0),
}
