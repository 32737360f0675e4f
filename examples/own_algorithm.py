"""An algorithm of your own in 30 lines: reward-weighted regression, trained by the same loop."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import dtql_jax


def reward_weighted_regression(width=256, temperature=1.0, learning_rate=3e-4, max_action=1.0):
    """Clones actions, each weighted by exp(reward / temperature)."""
    adam = optax.adam(learning_rate)

    def network(action_dim):
        return nn.Sequential(
            [nn.Dense(width), nn.relu, nn.Dense(width), nn.relu, nn.Dense(action_dim)]
        )

    def policy(params, observations, action_dim):
        return max_action * jnp.tanh(network(action_dim).apply(params, observations))

    def init(key, sample):
        params = network(sample.actions.shape[-1]).init(key, sample.observations)
        return {"params": params, "adam": adam.init(params)}

    def train_step(state, batch, key):
        def loss_fn(params):
            error = policy(params, batch.observations, batch.actions.shape[-1]) - batch.actions
            weights = jax.nn.softmax(batch.rewards / temperature)
            return jnp.sum(weights * jnp.sum(error**2, axis=-1))

        loss, grads = jax.value_and_grad(loss_fn)(state["params"])
        updates, adam_state = adam.update(grads, state["adam"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "adam": adam_state}, {"policy_loss": loss}

    def act(state, observations, key):
        action_dim = state["params"]["params"]["layers_4"]["bias"].shape[-1]
        return policy(state["params"], observations, action_dim)

    return dtql_jax.Algorithm(init, train_step, train_step, act)


def main(data="pointmaze-umaze", steps=2_000, episodes=20, **options):
    """Trains it on a task and plays it."""
    algorithm = reward_weighted_regression()
    trained = dtql_jax.train(data, algorithm=algorithm, steps=steps, **options)
    score = trained.evaluate(episodes=episodes)
    print(f"{score.name} {score.mean:.1f} +- {score.standard_error:.1f}")
    return trained, score


if __name__ == "__main__":
    main()
