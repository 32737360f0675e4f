"""The 2D bandits of the paper's figures 1 to 3: what they are and how both rows are trained."""

import ml_collections

# data, reward, updates of the trust region, updates of the KL form, weight eta of Q
PANELS = {
    "gaussians_far": ("gaussians", "far", 3_500, 2_000, 1.0),
    "gaussians_hard": ("gaussians", "hard", 3_500, 2_500, 1.0),
    "gaussians_near": ("gaussians", "near", 3_500, 3_500, 1.0),
    "swiss_roll_far": ("swiss_roll", "far", 3_500, 3_500, 5.0),
    "swiss_roll_near": ("swiss_roll", "near", 3_500, 1_500, 1.0),
}


def get_config() -> ml_collections.ConfigDict:
    """The configuration of `experiments.bandits`, with the paper's settings."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # of data, networks and batches
    config.points = 10_000  # actions in the data
    config.samples = 1_000  # of a policy in a picture
    config.batch_size = 512  # actions in an update; 0: all of the data, as in the paper
    config.record_every = 100  # updates between two recordings of samples
    config.panels = ml_collections.ConfigDict()
    for name, (data, reward, trust_region_steps, kl_steps, eta) in PANELS.items():
        config.panels[name] = ml_collections.ConfigDict(
            {
                "data": data,  # gaussians or swiss_roll
                "reward": reward,  # far, near, hard or two_corners
                "trust_region_steps": trust_region_steps,  # updates before the picture
                "kl_steps": kl_steps,  # the same of the lower row
                "eta": eta,  # policy loss = L_TR - eta * Q + gamma * L_NLL
            }
        )

    shared = {
        "learning_rate": 3e-3,
        "critic_learning_rate": 3e-3,
        "expectile": 0.95,
        "discount": 0.99,
        "hidden_dim": 128,
        "time_dim": 4,
        "clip_denoised": False,  # D is not kept inside the data's box
        "action_selection": "single",  # what the policy itself draws, unjudged by the critics
    }
    config.trust_region = ml_collections.ConfigDict(
        {
            "algorithm": "dtql",
            "pretrain_steps": 0,  # updates of critics and diffusion before the policy learns
            "gamma": 0.0,  # weight of the NLL; the paper also shows 0.005
            "settings": dict(shared),
        }
    )
    config.kl = ml_collections.ConfigDict(
        {
            "algorithm": "dql_kl",
            # the generator starts from the diffusion policy, which must be there first
            "pretrain_steps": 1_500,
            "gamma": 0.0,  # an implicit policy has no likelihood
            "settings": dict(shared),
        }
    )
    return config
