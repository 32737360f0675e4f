"""Which noise levels a denoising loss draws, and in which unit an error of D counts at each.

| weighting | sigma | loss |
|---|---|---|
| edm | truncated log-logistic around sigma_data | ((D - a) / c_out)^2, as EDM trains |
| elbo | log-uniform: the log-SNR is uniform | ((D - a) / sigma)^2, the error of the noise |

With "elbo", the expectation over noise and levels is, up to the factor `elbo_factor` and the
constant `elbo_constant`, the variational bound on -log p(a) (Kingma et al. 2021, arXiv 2107.00630,
section 5): the weight is -dSNR/dt, which DTQL's theorem asks for. SNR = 1/sigma^2 is that of
x = a + sigma * eps; a variance-preserving process with the same SNR is the same process in another
unit of x, and EDM's c_in gives the network its input in that unit.
"""

import jax.numpy as jnp
import numpy as np

from dtql_jax.diffusion import edm
from dtql_jax.types import Array

WEIGHTINGS = ("edm", "elbo")


def noise_level(weighting: str, uniform: Array) -> Array:
    """Maps uniform numbers in [0, 1) to noise levels within [SIGMA_MIN, SIGMA_MAX].

    Args:
      weighting: one of WEIGHTINGS.
      uniform: of any shape.

    Raises:
      ValueError: there is no such weighting.
    """
    if weighting == "edm":
        return edm.noise_level(uniform)
    if weighting == "elbo":
        low, high = np.log(edm.SIGMA_MIN), np.log(edm.SIGMA_MAX)
        return jnp.exp(low + (high - low) * uniform)
    raise ValueError(f"weighting is {weighting!r}; expected one of {WEIGHTINGS}")


def error_scale(weighting: str, sigma: Array) -> Array:
    """The unit of an error of D at levels `sigma`: c_out of EDM, or sigma."""
    return edm.scaling(sigma).out if weighting == "edm" else sigma


def elbo_factor() -> float:
    """Factor of the "elbo" loss, summed over dimensions: half the range of log(SNR)."""
    return float(np.log(edm.SIGMA_MAX / edm.SIGMA_MIN))


def elbo_constant(dimensions: int) -> float:
    """The rest of the bound on -log p(a): the entropy of the smallest noise, in nats.

    The bound's prior term is 0 where SIGMA_MAX is far beyond the data, and its reconstruction term
    is -log of a Gaussian of deviation SIGMA_MIN around the last sample.
    """
    return 0.5 * dimensions * float(np.log(2.0 * np.pi * np.e * edm.SIGMA_MIN**2))
