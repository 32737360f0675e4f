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
        found = np.array([self._climb(grid[i - 1], grid[i + 1]) for i in at])
        return found[np.argsort(-self.log_density(found))] if len(found) else found

    def _climb(self, low: float, high: float) -> float:
        result: Any = optimize.minimize_scalar(
            lambda a: -float(self.log_density(np.array(a))),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return float(result.x)

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

        Given the component, the posterior mean is that of two Gaussians; the components count by
        their posterior probabilities.
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
    """Returns a mixture from its "weights", "means" and "stds".

    Raises:
      UserError: their lengths differ, a number is out of range, the weights do not sum to 1, or
        too much of the mass is outside the action space [-1, 1].
    """
    weights, means, stds = (
        tuple(float(number) for number in settings[name]) for name in ("weights", "means", "stds")
    )
    if not weights or not len(weights) == len(means) == len(stds):
        raise UserError(
            f"mixture has {len(weights)} weights, {len(means)} means and {len(stds)} stds; "
            "expected as many of each, at least 1"
        )
    if min(weights) <= 0.0 or abs(sum(weights) - 1.0) > 1e-6:
        raise UserError(f"mixture.weights are {weights}; expected numbers above 0 that sum to 1")
    # a narrower mode could not be resolved at the smallest noise level
    if min(stds) < 5 * edm.SIGMA_MIN:
        raise UserError(f"mixture.stds are {stds}; expected at least {5 * edm.SIGMA_MIN:g} each")
    beyond = sum(
        weight * (special.ndtr((-1.0 - mean) / std) + special.ndtr((mean - 1.0) / std))
        for weight, mean, std in zip(weights, means, stds, strict=True)
    )
    if beyond > 0.01:
        raise UserError(
            f"{100 * beyond:.1f} % of the mixture is outside [-1, 1]; expected at most 1 %"
        )
    return Mixture(weights, means, stds)
