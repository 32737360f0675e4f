"""From nothing to a trained policy and its score: a point maze, a few minutes on a CPU."""

import dtql_jax


def main(episodes=20, out="policy.zip", **options):
    """Trains DTQL with the task's preset, plays it, and writes the policy to a file."""
    trained = dtql_jax.train("pointmaze-umaze", **options)
    score = trained.evaluate(episodes=episodes)
    print(f"{score.name} {score.mean:.1f} +- {score.standard_error:.1f} over {episodes} episodes")
    trained.save(out)
    return score


if __name__ == "__main__":
    main()
