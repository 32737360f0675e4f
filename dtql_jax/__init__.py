"""DTQL: diffusion trust-region Q-learning for offline reinforcement learning in JAX."""

__version__ = "0.1.0"
