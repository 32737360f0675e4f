"""Your own arrays and your own Gymnasium environment: a point on a line that seeks a target."""

import gymnasium
import numpy as np

import dtql_jax


class Line(gymnasium.Env):
    """Position and target in [-1, 1]; an action in [-2, 2] moves by a tenth of it."""

    observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Draws both places."""
        super().reset(seed=seed)
        self.places = self.np_random.uniform(-1.0, 1.0, 2)
        return self.places.astype(np.float32), {}

    def step(self, action):
        """The reward is minus the distance that is left."""
        self.places[0] = np.clip(self.places[0] + 0.1 * float(action[0]), -2.0, 2.0)
        reward = -abs(self.places[1] - self.places[0])
        return self.places.astype(np.float32), reward, False, False, {}


def record(rows, seed=0):
    """Transitions of random actions: any arrays of these names will do."""
    env, rng = Line(), np.random.default_rng(seed)
    kept = []
    for row in range(rows):
        if row % 20 == 0:
            observation, _ = env.reset(seed=seed + row)
        action = rng.uniform(-2.0, 2.0, 1)
        following, reward, *_ = env.step(action)
        kept.append((observation, action, following, reward, 1.0))
        observation = following
    return dtql_jax.Transition(*map(np.asarray, zip(*kept, strict=True)))


def main(rows=20_000, steps=2_000, episodes=20, **options):
    """Trains on the arrays and plays in the environment."""
    trained = dtql_jax.train(record(rows), Line, max_episode_steps=20, steps=steps, **options)
    score = trained.evaluate(episodes=episodes)
    print(f"{score.name} {score.mean:.2f} +- {score.standard_error:.2f}")
    print("at -0.5 with the target at 0.5:", trained.act([-0.5, 0.5], seed=0))
    return trained, score


if __name__ == "__main__":
    main()
