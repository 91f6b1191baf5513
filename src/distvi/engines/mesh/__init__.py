"""Synchronous training over the JAX devices of one process."""
