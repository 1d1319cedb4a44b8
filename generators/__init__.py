"""Requests become sounds: the backends, the denoising engine and the pool that keeps them."""
