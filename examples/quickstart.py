"""From nothing to a trained policy and its score: a point maze, a few minutes on a CPU."""

import dtql_jax


def main(steps=2_000, episodes=20, out="policy.zip", **options):
    """Trains DTQL, plays it, and writes a policy to go."""
    settings = {"gamma": 1.0, "expectile": 0.9} | options.pop("settings", {})
    trained = dtql_jax.train(
        "pointmaze-umaze", source="generated", steps=steps, reward_shift=-1.0, settings=settings,
        **options,
    )  # fmt: skip
    score = trained.evaluate(episodes=episodes)
    print(f"{score.name} {score.mean:.1f} +- {score.standard_error:.1f} over {episodes} episodes")
    trained.save(out)
    return score


if __name__ == "__main__":
    main()
