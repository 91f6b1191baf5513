"""The mathematics under the models: random features, fused layers, Gaussian densities. Pure JAX."""
