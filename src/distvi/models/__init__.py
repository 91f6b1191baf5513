"""Bayesian deep models: any object with ``init``, ``neg_elbo`` and ``predict`` (see ``base``)."""

from distvi.models.base import Batch, Model, Params
from distvi.models.bayesian_network import BayesianNetwork, BayesianNetworkSettings
from distvi.models.deep_gp import DeepGP, DeepGPSettings
from distvi.models.predictive import Predictive
from distvi.models.registry import MODELS, build_model

__all__ = [
    "MODELS",
    "Batch",
    "BayesianNetwork",
    "BayesianNetworkSettings",
    "DeepGP",
    "DeepGPSettings",
    "Model",
    "Params",
    "Predictive",
    "build_model",
]
