"""One-dimensional mixtures of Gaussians: density, modes, samples, and the exact denoiser."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from dtql_jax.diffusion import edm
from dtql_jax.errors import UserError
from dtql_jax.types import Array


class Mixture(NamedTuple):
    """p(a) = sum_k weights[k] N(a; means[k], stds[k]^2), all of length K."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    def log_density(self, actions: np.ndarray, sigma: float = 0.0) -> np.ndarray:
        """Returns log p(a) in nats, float64 of the actions' shape.

        Args:
          actions: [...].
          sigma: deviation of Gaussian noise that is added to the data first.
        """
        actions = np.asarray(actions, np.float64)[..., None]
        total = np.sqrt(np.square(self.stds) + sigma**2)
        exponent = -0.5 * ((actions - np.asarray(self.means)) / total) ** 2
        scale = np.asarray(self.weights) / (np.sqrt(2.0 * np.pi) * total)
        return np.asarray(special.logsumexp(exponent, b=scale, axis=-1))

    def modes(self) -> np.ndarray:
        """Returns the local maxima of p within [-1, 1], the highest first: [M]."""
        grid = np.linspace(-1.0, 1.0, 4_001)
        p = self.log_density(grid)
        at = np.flatnonzero((p[1:-1] > p[:-2]) & (p[1:-1] >= p[2:])) + 1

        def climb(low: float, high: float) -> float:
            result: Any = optimize.minimize_scalar(
                lambda a: -float(self.log_density(np.array(a))),
                bounds=(low, high),
                method="bounded",
                options={"xatol": 1e-9},
            )
            return result.x

        found = np.array([climb(grid[i - 1], grid[i + 1]) for i in at])
        return found[np.argsort(-self.log_density(found))]

    def sample(self, key: Array, number: int) -> Array:
        """Draws actions: [number, 1] float32."""
        component_key, noise_key = jax.random.split(key)
        logits = jnp.log(jnp.asarray(self.weights))
        component = jax.random.categorical(component_key, logits, shape=(number,))
        noise = jax.random.normal(noise_key, (number,))
        actions = jnp.asarray(self.means)[component] + jnp.asarray(self.stds)[component] * noise
        return actions[:, None]

    def denoise(self, x: Array, sigma: Array) -> Array:
        """Returns E[a | a + sigma * eps = x], the denoiser of least error; all are [...].

        It is the mean of the components' posterior means, weighted by their posteriors.
        """
        means, variances = jnp.asarray(self.means), jnp.square(jnp.asarray(self.stds))
        noise = jnp.square(sigma)[..., None]
        total = variances + noise
        x = x[..., None]
        logits = jnp.log(jnp.asarray(self.weights)) - 0.5 * jnp.log(total)
        shares = jax.nn.softmax(logits - 0.5 * (x - means) ** 2 / total, axis=-1)
        return jnp.sum(shares * (variances * x + noise * means) / total, axis=-1)

    def network(self, inputs: Array, observations: Array, noise: Array) -> Array:
        """Returns the raw F of EDM's equation 7 that makes D equal to `denoise`.

        Args:
          inputs: c_in x, [..., 1].
          observations: not used; the mixture has one state.
          noise: log(sigma) / 4, [...].
        """
        sigma = jnp.exp(4.0 * noise)
        c = edm.scaling(sigma)
        x = inputs[..., 0] / c.input
        return ((self.denoise(x, sigma) - c.skip * x) / c.out)[..., None]


def make(settings: Mapping[str, Sequence[float]]) -> Mixture:
    """Returns a mixture from its "weights", "means" and "stds"; UserError if they are wrong."""
    weights, means, stds = (
        tuple(float(number) for number in settings[name]) for name in ("weights", "means", "stds")
    )
    if not len(weights) == len(means) == len(stds) or abs(sum(weights) - 1.0) > 1e-6:
        raise UserError(
            f"mixture has weights {weights}, means {means} and stds {stds}; expected as many of "
            "each, and weights that sum to 1"
        )
    # a narrower mode could not be resolved at the smallest noise level
    if min(stds) < 5 * edm.SIGMA_MIN:
        raise UserError(f"mixture.stds are {stds}; expected at least {5 * edm.SIGMA_MIN:g} each")
    mean, std = np.array(means), np.array(stds)
    outside = special.ndtr((-1.0 - mean) / std) + special.ndtr((mean - 1.0) / std)
    beyond = float(np.dot(weights, outside))
    if beyond > 0.01:
        raise UserError(
            f"{100 * beyond:.1f} % of the mixture is outside [-1, 1]; expected at most 1 %"
        )
    return Mixture(weights, means, stds)
