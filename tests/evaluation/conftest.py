"""A fast environment with episodes of many lengths, and a policy for it."""

import numpy as np
import pytest

from dtql_jax.envs.make import make_env
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation.rollout import episode_seed

# With the stronger engine an episode reaches its goal (reward 100) after 26 to 52 steps, or is
# truncated at 42: both occur.
_CAR = EnvSpec("MountainCarContinuous-v0", 42, attributes={"power": 0.004}, success="reward")


def _drive(observations, episodes, steps):
    """Pushes along the velocity, with noise from the row's own episode and step."""
    noise = 0.4 * np.sin(100 * observations[..., 0] + 3 * episodes + 0.7 * steps)
    return (np.sign(observations[..., 1]) + noise)[..., None].astype(np.float32)


@pytest.fixture
def car():
    return _CAR


@pytest.fixture
def drive():
    return _drive


@pytest.fixture
def play():
    """The definition of an evaluation: one episode after another in one environment."""

    def _play(policy, spec, seeds, episodes):
        env = make_env(spec)
        low, high = env.action_space.low, env.action_space.high
        paths = {}
        for member, seed in enumerate(seeds):
            for episode in range(episodes):
                observation, _ = env.reset(seed=episode_seed(seed, episode))
                seen, rewards, done = [observation], [], False
                while not done:
                    action = policy(
                        seen[-1][None, None],
                        np.full((1, 1), episode, np.int32),
                        np.full((1, 1), len(rewards), np.int32),
                    )[0, 0]
                    step = env.step(np.clip(action, low, high))
                    seen.append(step[0])
                    rewards.append(float(step[1]))
                    done = step[2] or step[3]
                paths[member, episode] = np.stack(seen), np.array(rewards)
        env.close()
        return paths

    return _play
