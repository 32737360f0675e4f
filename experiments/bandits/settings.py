"""The 2D bandits of the paper's figures 1 to 3: the authors' settings, and the project's own."""

import ml_collections

# data, reward, eta of the trust region, updates of the trust region, updates of the KL form
PANELS = {
    "gaussians_far": ("gaussians", "far", 1.0, 3_500, 2_000),
    "gaussians_hard": ("gaussians", "hard", 1.0, 3_500, 2_500),
    "gaussians_near": ("gaussians", "near", 1.0, 3_500, 3_500),
    "swiss_roll_far": ("swiss_roll", "far", 5.0, 3_500, 3_500),
    "swiss_roll_near": ("swiss_roll", "near", 1.0, 3_500, 1_500),
}

DATA_TITLES = {"gaussians": "25 Gaussians", "swiss_roll": "swiss roll"}
SEEDS, FULL_SEEDS = 2, 8  # of the command, and of --full

# The project's own setting, and one cause at a time. These policies learn on networks that were
# trained first (for the updates of PANELS) and are held. Columns: start of the policy ("middle":
# mean 0 and std 1 in the box; "data": the data point of least loss, std e^-4), factor of eta,
# weight gamma of the NLL, updates of the policy.
VARIANTS = {
    "order": ("networks trained first, then held", "middle", 1.0, 0.0, 1_500),
    "updates": ("the same, twice the updates of the policy", "middle", 1.0, 0.0, 3_000),
    "eta": ("the same, eta / 2", "middle", 0.5, 0.0, 1_500),
    "gamma": ("the same, gamma 0.005", "middle", 1.0, 0.005, 1_500),
    "start": ("the same, start at a data point", "data", 1.0, 0.0, 750),
    "own": ("own: the same, start at a data point and eta / 2", "data", 0.5, 0.0, 750),
}


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration of `experiments.bandits`."""
    config = ml_collections.ConfigDict()
    config.seeds = 0  # each has its own data, networks and random numbers; 0: 2, or 8 with --full
    config.cause_seeds = 3  # seeds that --full trains the variants on; "own" is trained on all
    config.points = 10_000  # actions in the data
    config.samples = 1_000  # of a policy, for the figure and its numbers
    config.learning_rate = 3e-3  # of every network
    config.expectile = 0.95
    config.discount = 0.99
    config.kl_eta = 1.0  # weight of Q in the KL form, in every panel
    # rows of an update, quasi-random: the authors take all 10,000
    config.critic_rows = 256
    config.denoiser_rows = 1_024
    config.policy_rows = 128
    config.generator_rows = 128
    config.panels = ml_collections.ConfigDict()
    for name, (data, reward, eta, updates, kl_updates) in PANELS.items():
        config.panels[name] = ml_collections.ConfigDict(
            {
                "data": data,  # gaussians or swiss_roll
                "reward": reward,  # far, near, hard or two_corners
                "eta": eta,  # weight of Q in the trust region's policy loss
                "updates": updates,
                "kl_updates": kl_updates,
            }
        )
    config.variants = ml_collections.ConfigDict()
    for name, (differs, start, eta_scale, gamma, updates) in VARIANTS.items():
        config.variants[name] = ml_collections.ConfigDict(
            {
                "differs": differs,
                "start": start,
                "eta_scale": eta_scale,
                "gamma": gamma,
                "updates": updates,
            }
        )
    return config
