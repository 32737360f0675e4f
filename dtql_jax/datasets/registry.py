"""All tasks, with the sources of their data and their evaluation environments.

Generated data of D4RL's tasks is recorded in the environment of D4RL's files, rebuilt on today's
MuJoCo, and has names of its own.
"""

from __future__ import annotations

import dataclasses
import re

from dtql_jax.datasets.sources import D4rlSource, GeneratedSource, MinariSource, Task
from dtql_jax.envs.maps import MAPS, cells
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
    # environment, O, A, D4RL's scores, rows of D4RL's medium-replay, generated a second
    bodies = {
        "halfcheetah": ("HalfCheetah", 17, 6, (-280.178953, 12135.0), 202_000, 4_500),
        "hopper": ("Hopper", 11, 3, (-20.272305, 3234.3), 402_000, 3_200),
        "walker2d": ("Walker2d", 17, 6, (1.629008, 4592.3), 302_000, 2_700),
    }
    # Minari's datasets
    parts = {
        "medium": ("medium",),
        "medium-replay": (),
        "medium-expert": ("medium", "expert"),
        "simple": ("simple",),
        "expert": ("expert",),
    }
    tasks = []
    for body, (env, size, actions, scores, replay, speed) in bodies.items():
        old, new = EnvSpec(f"{env}-v4", 1000), EnvSpec(f"{env}-v5", 1000)
        for kind, levels in parts.items():
            ids = tuple(f"mujoco/{body}/{level}-v0" for level in levels)
            file = f"{body}_{kind.replace('-', '_')}-v2.hdf5"
            d4rl = D4rlSource(old, size, actions, file, "v2", scores)
            generated = GeneratedSource(
                old,
                size,
                actions,
                f"dtql_jax/{body}",
                "policy",
                {"medium-replay": replay, "medium-expert": 2_000_000}.get(kind, 1_000_000),
                speed,
                8 * size + 4 * actions + 50,
                policy=f"{body}-{kind}",
            )
            tasks.append(
                Task(
                    f"{body}-{kind}",
                    "gym",
                    MinariSource(new, size, actions, ids) if ids else None,
                    (d4rl,) if kind.startswith("medium") else (),
                    generated,
                )
            )
    return tasks


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
    # size, time limit, name in D4RL's files, random starts, random goals
    kinds = {
        "umaze": ("umaze", 700, "u-maze", False, False),
        "umaze-diverse": ("umaze", 700, "u-maze", True, True),
        "medium-play": ("medium", 1000, "big-maze", True, False),
        "medium-diverse": ("medium", 1000, "big-maze", True, True),
        "large-play": ("large", 1000, "hardest-maze", True, False),
        "large-diverse": ("large", 1000, "hardest-maze", True, True),
    }
    names = {"umaze": "UMaze", "medium": "Medium", "large": "Large"}
    tasks = []
    for kind, (size, steps, stem, starts, goals) in kinds.items():
        # Minari's umaze goes from the lower left to the upper left, D4RL's the other way
        rows = MAPS[size][::-1] if kind == "umaze" else MAPS[size]
        env = EnvSpec(
            f"AntMaze_{names[size]}-v4",
            steps,
            kwargs={"maze_map": cells(rows), "continuing_task": False},
            observation_keys=("achieved_goal", "observation", "desired_goal"),
            success="reward",
        )
        minari = MinariSource(env, 31, 8, (f"D4RL/antmaze/{kind}-v1",))
        d4rl = []
        for version, end in (("v2", "_fixed"), ("v0", "")):
            file = f"Ant_maze_{stem}_noisy_multistart_{starts}_multigoal_{goals}_sparse{end}.hdf5"
            # v2 draws the goal anew each episode, v0 once for each environment
            arguments = {"maze": size, "goal_each_episode": version == "v2"}
            own = EnvSpec("dtql_jax/AntMazeD4RL-v0", steps, kwargs=arguments, success="reward")
            d4rl.append(D4rlSource(own, 29, 8, file, version, (0.0, 1.0)))
        goal_cells = "any" if goals else _PLAY_GOALS[size]
        d4rl_ant, gymnasium_ant = (
            GeneratedSource(
                source.env,
                source.observation_dim,
                8,
                f"dtql_jax/antmaze-{variant}/{kind}",
                "antmaze",
                1_000_000,
                speed,
                8 * source.observation_dim + 100,
                policy=f"antmaze-{variant}",
                settings={"random_start": starts, "goal_cells": goal_cells},
                episode_steps=1000,
                variant=variant,
            )
            for variant, source, speed in (
                ("d4rl-ant", d4rl[0], 1_400),
                ("gymnasium-ant", minari, 1_000),
            )
        )
        name = f"antmaze-{kind}"
        tasks.append(Task(name, "antmaze", minari, tuple(d4rl), d4rl_ant, (gymnasium_ant,)))
    return tasks


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
    tasks = []
    for hand, (size, actions) in hands.items():
        env = EnvSpec(f"AdroitHand{hand.capitalize()}-v1", 200)
        old = EnvSpec("dtql_jax/AdroitPenD4RL-v0", 100) if hand == "pen" else env
        for kind in ("human", "cloned", "expert"):
            name = f"{hand}-{kind}"
            d4rl = ()
            if name in files:
                d4rl = (D4rlSource(old, size, actions, f"{name}-v1.hdf5", "v1", files[name]),)
            generated, reason = None, f"no behaviour policy for the {hand} is part of this version"
            if kind == "human":
                reason = f"{name} is recorded from people and cannot be collected here"
            elif hand == "pen":
                cost = 8 * size + 4 * actions + 170
                generated = GeneratedSource(
                    old, size, actions, "dtql_jax/pen", "policy", 500_000, 1_500, cost, policy=name
                )
            minari = MinariSource(env, size, actions, (f"D4RL/{hand}/{kind}-v2",))
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
        # random actions rarely complete a subtask: enough for a trial, not for learning
        generated = GeneratedSource(
            old,
            60,
            9,
            f"dtql_jax/kitchen-random/{kind}",
            "random",
            100_000,
            250,
            8 * 60 + 4 * 9 + 50,
            variant="random",
        )
        tasks.append(
            Task(
                f"kitchen-{kind}",
                "kitchen",
                MinariSource(env, 59, 9, (f"D4RL/kitchen/{kind}-v2",)),
                (D4rlSource(old, 60, 9, file, "v0", (0.0, 4.0)),),
                generated_variants=(generated,),
                not_generated="kitchen data is recorded from people and cannot be collected here",
            )
        )
    return tasks


def _pointmaze_tasks() -> list[Task]:
    """A ball in a maze, with random start and goal: the tasks that run on any machine."""
    tasks = []
    for maze, steps in {"UMaze": 300, "Medium": 600, "Large": 800}.items():
        size = maze.lower()
        env = EnvSpec(
            f"PointMaze_{maze}-v3",
            steps,
            kwargs={"continuing_task": False},
            observation_keys=("observation", "desired_goal"),
            success="reward",
        )
        name = f"dtql_jax/pointmaze/{size}"
        generated = GeneratedSource(env, 6, 2, name, "pointmaze", 100_000, 2_000, 450)
        minari = MinariSource(env, 6, 2, (f"D4RL/pointmaze/{size}-v2",))
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
