"""The trust-region loss of a mixture of Gaussians, whose density and best denoiser are known."""
