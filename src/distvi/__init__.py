"""Distributed stochastic variational inference of Bayesian deep models."""

__version__ = "0.1.0"
