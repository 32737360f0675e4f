"""The one-dimensional mixture of `experiments.theory`, and the denoisers that are trained on it."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings of `experiments.theory`."""
    config = ml_collections.ConfigDict()
    config.mixture = ml_collections.ConfigDict()
    # the narrow component has the highest density, the broad one three quarters of the mass
    config.mixture.weights = (0.25, 0.75)
    config.mixture.means = (-0.6, 0.3)  # inside the action space [-1, 1]
    config.mixture.stds = (0.05, 0.2)

    config.seed = 0  # of the first denoiser of each weight; denoiser i has seed + i
    config.seeds = 3  # denoisers of each weight
    config.train_steps = 5_000  # updates
    config.batch_size = 512  # actions in an update, drawn anew from the mixture
    config.learning_rate = 1e-3  # falls to 0 as a cosine
    config.hidden_dim = 128  # width of a denoiser
    config.time_dim = 16  # features of the noise level

    config.grid = 401  # actions in [-1, 1] at which the loss is computed
    config.levels = 256  # noise levels of the loss, stratified
    config.nodes = 64  # Gauss-Hermite nodes of the noise at each level
    return config
