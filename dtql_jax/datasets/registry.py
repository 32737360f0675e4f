"""All tasks, with the sources of their data and their evaluation environments.

Generated data of D4RL's tasks is recorded in the environment of D4RL's files, rebuilt on today's
MuJoCo, and has names of its own.
"""

from __future__ import annotations

import dataclasses
import re

from dtql_jax.datasets.sources import D4rlSource, GeneratedSource, MinariSource, Task
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError, near_matches

# the action space of all tasks is [-1, 1] in each entry
ACTION_LOW, ACTION_HIGH = -1.0, 1.0


def get_task(name: str) -> Task:
    """Returns a task by its name, with or without a D4RL version.

    "hopper-medium" and "hopper-medium-v2" are the same task; "antmaze-umaze-v0" is
    antmaze-umaze with the v0 file as its D4RL source.

    Raises:
      UserError: the task is unknown, or D4RL has no such version of it.
    """
    if name in TASKS:
        return TASKS[name]
    match = re.fullmatch(r"(.+)-(v\d+)", name)
    if match is None or match[1] not in TASKS:
        raise UserError(f"unknown task {name!r}: {near_matches(name, TASKS)}")
    task = TASKS[match[1]]
    chosen = tuple(source for source in task.d4rl if source.version == match[2])
    if not chosen:
        known = ", ".join(f"{task.name}-{source.version}" for source in task.d4rl) or "none"
        raise UserError(f"task {task.name!r} has no D4RL version {match[2]}; known: {known}")
    return dataclasses.replace(task, d4rl=chosen)


def _gym_tasks() -> list[Task]:
    """halfcheetah, hopper, walker2d: flat observations, 1000 steps.

    Minari's sets were recorded in the -v5 environments. D4RL's come from -v2, whose
    models and rewards the -v4 environments kept and -v5 changed (hopper, walker2d).
    The names of generated datasets have no level, because it depends on the policies.
    """
    # environment, sizes, D4RL's scores, rows of D4RL's medium-replay, generated a second
    bodies = {
        "halfcheetah": ("HalfCheetah", 17, 6, (-280.178953, 12135.0), 202_000, 4_500),
        "hopper": ("Hopper", 11, 3, (-20.272305, 3234.3), 402_000, 3_200),
        "walker2d": ("Walker2d", 17, 6, (1.629008, 4592.3), 302_000, 2_700),
    }
    parts = {
        "medium": ("medium",),
        "medium-replay": (),
        "medium-expert": ("medium", "expert"),
        "simple": ("simple",),
        "expert": ("expert",),
    }
    tasks = []
    for body, (env, observation_dim, action_dim, scores, replay, speed) in bodies.items():
        for kind, levels in parts.items():
            rows = {"medium-replay": replay, "medium-expert": 2_000_000}.get(kind, 1_000_000)
            generated = GeneratedSource(
                f"dtql_jax/{body}",
                "policy",
                EnvSpec(f"{env}-v4", 1000),
                observation_dim,
                action_dim,
                rows,
                speed,
                bytes_per_transition=8 * observation_dim + 4 * action_dim + 50,
                policy=f"{body}-{kind}",
            )
            ids = tuple(f"mujoco/{body}/{level}-v0" for level in levels)
            minari = MinariSource(ids, EnvSpec(f"{env}-v5", 1000), observation_dim, action_dim)
            d4rl = D4rlSource(
                f"{body}_{kind.replace('-', '_')}-v2.hdf5",
                "v2",
                EnvSpec(f"{env}-v4", 1000),
                observation_dim,
                action_dim,
                scores,
            )
            published = kind.startswith("medium")
            tasks.append(
                Task(
                    f"{body}-{kind}",
                    "gym",
                    minari if ids else None,
                    (d4rl,) if published else (),
                    generated,
                )
            )
    return tasks


# Start (r) and goal (g) of Minari's antmaze data: its umaze goes from the lower left to the upper
# left, and D4RL's in the opposite direction.
_MINARI_UMAZE = [
    [1, 1, 1, 1, 1],
    [1, "g", 0, 0, 1],
    [1, 1, 1, 0, 1],
    [1, "r", 0, 0, 1],
    [1, 1, 1, 1, 1],
]
# Start and goal of D4RL's evaluation; Gymnasium-Robotics has the same walls.
_D4RL_UMAZE = [
    [1, 1, 1, 1, 1],
    [1, "r", 0, 0, 1],
    [1, 1, 1, 0, 1],
    [1, "g", 0, 0, 1],
    [1, 1, 1, 1, 1],
]
_MEDIUM = [
    [1, 1, 1, 1, 1, 1, 1, 1],
    [1, "r", 0, 1, 1, 0, 0, 1],
    [1, 0, 0, 1, 0, 0, 0, 1],
    [1, 1, 0, 0, 0, 1, 1, 1],
    [1, 0, 0, 1, 0, 0, 0, 1],
    [1, 0, 1, 0, 0, 1, 0, 1],
    [1, 0, 0, 0, 1, 0, "g", 1],
    [1, 1, 1, 1, 1, 1, 1, 1],
]
_LARGE = [
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, "r", 0, 0, 0, 1, 0, 0, 0, 0, 0, 1],
    [1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1],
    [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
    [1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1],
    [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1],
    [1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1],
    [1, 0, 0, 1, 0, 0, 0, 1, 0, "g", 0, 1],
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
]


# goal cells of D4RL's "play" data, (row, column) of its maps; "diverse" data uses all free cells
_PLAY_GOALS = {
    "umaze": "evaluation",
    "medium": [[2, 6], [5, 1], [6, 5]],
    "large": [[1, 6], [3, 5], [3, 10], [5, 2], [7, 4], [7, 6], [7, 9]],
}


def _antmaze_tasks() -> list[Task]:
    """The six AntMazes; an evaluation episode ends at the goal or at the time limit.

    Observations of Minari (AntMaze_*-v4) have 31 entries: position, 27 numbers of the ant, goal.
    Those of D4RL have 29, without the goal. Data of both ants can be generated.
    """
    start = "Ant_maze"
    tasks = {
        "umaze": ("UMaze", _MINARI_UMAZE, 700, f"{start}_u-maze", False, False),
        "umaze-diverse": ("UMaze", _D4RL_UMAZE, 700, f"{start}_u-maze", True, True),
        "medium-play": ("Medium", _MEDIUM, 1000, f"{start}_big-maze", True, False),
        "medium-diverse": ("Medium", _MEDIUM, 1000, f"{start}_big-maze", True, True),
        "large-play": ("Large", _LARGE, 1000, f"{start}_hardest-maze", True, False),
        "large-diverse": ("Large", _LARGE, 1000, f"{start}_hardest-maze", True, True),
    }
    result = []
    for kind, (size, maze_map, steps, stem, starts, goals) in tasks.items():
        env = EnvSpec(
            f"AntMaze_{size}-v4",
            steps,
            kwargs={"maze_map": maze_map, "continuing_task": False},
            observation_keys=("achieved_goal", "observation", "desired_goal"),
            success="reward",
        )
        files = [
            D4rlSource(
                f"{stem}_noisy_multistart_{starts}_multigoal_{goals}_sparse{suffix}.hdf5",
                version,
                EnvSpec(
                    "dtql_jax/AntMazeD4RL-v0",
                    steps,
                    # v2 draws the goal anew each episode, v0 once for each environment
                    kwargs={"maze": size.lower(), "goal_each_episode": version == "v2"},
                    success="reward",
                ),
                29,
                8,
                (0.0, 1.0),
            )
            for version, suffix in (("v2", "_fixed"), ("v0", ""))
        ]
        minari = MinariSource((f"D4RL/antmaze/{kind}-v1",), env, 31, 8)
        settings = {
            "random_start": starts,
            "goal_cells": "any" if goals else _PLAY_GOALS[size.lower()],
        }
        d4rl_ant, gymnasium_ant = (
            GeneratedSource(
                f"dtql_jax/antmaze-{variant}/{kind}",
                "antmaze",
                source.env,
                source.observation_dim,
                8,
                1_000_000,
                speed,
                bytes_per_transition=8 * source.observation_dim + 100,
                policy=f"antmaze-{variant}",
                settings=settings,
                episode_steps=1000,
                variant=variant,
            )
            for variant, source, speed in (
                ("d4rl-ant", files[0], 1_400),
                ("gymnasium-ant", minari, 1_000),
            )
        )
        result.append(
            Task(
                f"antmaze-{kind}",
                "antmaze",
                minari,
                tuple(files),
                d4rl_ant,
                (gymnasium_ant,),
            )
        )
    return result


def _adroit_tasks() -> list[Task]:
    """pen, door, hammer, relocate: human, cloned and expert data.

    D4RL's pen has 100 steps and ends when the pen drops, Gymnasium-Robotics' 200 and no end.
    """
    hands = {"pen": (45, 24), "door": (39, 28), "hammer": (46, 26), "relocate": (39, 30)}
    files = {
        "pen-human": (96.262799, 3076.833102),
        "pen-cloned": (96.262799, 3076.833102),
        "door-human": (-56.512833, 2880.569309),
    }
    pen = EnvSpec("dtql_jax/AdroitPenD4RL-v0", 100)
    tasks = []
    for hand, (observation_dim, action_dim) in hands.items():
        for kind in ("human", "cloned", "expert"):
            name = f"{hand}-{kind}"
            env_id = f"AdroitHand{hand.capitalize()}-v1"
            d4rl = ()
            if name in files:
                env = pen if hand == "pen" else EnvSpec(env_id, 200)
                file = f"{name}-v1.hdf5"
                d4rl = (D4rlSource(file, "v1", env, observation_dim, action_dim, files[name]),)
            minari = MinariSource(
                (f"D4RL/{name.replace('-', '/')}-v2",),
                EnvSpec(env_id, 200),
                observation_dim,
                action_dim,
            )
            generated, reason = None, f"no behaviour policy for the {hand} is part of this version"
            if kind == "human":
                reason = f"{name} is recorded from people and cannot be collected here"
            elif hand == "pen":
                generated = GeneratedSource(
                    "dtql_jax/pen",
                    "policy",
                    pen,
                    observation_dim,
                    action_dim,
                    500_000,
                    1_500,
                    bytes_per_transition=8 * observation_dim + 4 * action_dim + 170,
                    policy=name,
                )
            tasks.append(Task(name, "adroit", minari, d4rl, generated, not_generated=reason))
    return tasks


def _kitchen_tasks() -> list[Task]:
    """Four subtasks in a kitchen; a return of 0 to 4 counts those completed.

    Minari's data was recorded without termination and with the number of completed subtasks as
    the reward of each step. Evaluation counts each subtask once and ends with the fourth, as in
    D4RL. D4RL's observations have 60 entries (with the goal, without velocities),
    Gymnasium-Robotics' have 59.
    """
    slider = ["microwave", "kettle", "light switch", "slide cabinet"]
    burner = ["microwave", "kettle", "bottom burner", "light switch"]
    kinds = {
        "complete": (slider, "mini_kitchen_microwave_kettle_light_slider-v0.hdf5"),
        "partial": (slider, "kitchen_microwave_kettle_light_slider-v0.hdf5"),
        "mixed": (burner, "kitchen_microwave_kettle_bottomburner_light-v0.hdf5"),
    }
    tasks = []
    for kind, (subtasks, file) in kinds.items():
        env = EnvSpec(
            "FrankaKitchen-v1",
            280,
            kwargs={
                "tasks_to_complete": subtasks,
                "terminate_on_tasks_completed": True,
                "remove_task_when_completed": True,
            },
            observation_keys=("observation",),
        )
        old = EnvSpec("dtql_jax/KitchenD4RL-v0", 280, kwargs={"tasks_to_complete": subtasks})
        tasks.append(
            Task(
                f"kitchen-{kind}",
                "kitchen",
                MinariSource((f"D4RL/kitchen/{kind}-v2",), env, 59, 9),
                (D4rlSource(file, "v0", old, 60, 9, (0.0, 4.0)),),
                # random actions rarely complete a subtask: enough for a trial, not for learning
                generated_variants=(
                    GeneratedSource(
                        f"dtql_jax/kitchen-random/{kind}",
                        "random",
                        old,
                        60,
                        9,
                        100_000,
                        250,
                        bytes_per_transition=8 * 60 + 4 * 9 + 50,
                        variant="random",
                    ),
                ),
                not_generated="kitchen data is recorded from people and cannot be collected here",
            )
        )
    return tasks


def _pointmaze_tasks() -> list[Task]:
    """A ball in a maze, with random start and goal: the tasks that run on any machine."""
    tasks = []
    sizes = {"umaze": ("UMaze", 300), "medium": ("Medium", 600), "large": ("Large", 800)}
    for size, (maze, steps) in sizes.items():
        env = EnvSpec(
            f"PointMaze_{maze}-v3",
            steps,
            kwargs={"continuing_task": False},
            observation_keys=("observation", "desired_goal"),
            success="reward",
        )
        generated = GeneratedSource(
            f"dtql_jax/pointmaze/{size}", "pointmaze", env, 6, 2, 100_000, 2_000, 450
        )
        minari = MinariSource((f"D4RL/pointmaze/{size}-v2",), env, 6, 2)
        tasks.append(Task(f"pointmaze-{size}", "pointmaze", minari, (), generated))
    return tasks


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *_gym_tasks(),
        *_antmaze_tasks(),
        *_adroit_tasks(),
        *_kitchen_tasks(),
        *_pointmaze_tasks(),
    )
}
