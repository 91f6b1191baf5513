"""Bayesian deep models: any object with ``init``, ``neg_elbo`` and ``predict`` (see ``base``)."""

from distvi.models.base import Batch, Model, Params
from distvi.models.bayesian_network import BayesianNetwork
from distvi.models.build import build_model
from distvi.models.deep_gp import DeepGP
from distvi.models.predictive import Predictive
from distvi.models.settings import BayesianNetworkSettings, DeepGPSettings, ModelSettings

__all__ = [
    "Batch",
    "BayesianNetwork",
    "BayesianNetworkSettings",
    "DeepGP",
    "DeepGPSettings",
    "Model",
    "ModelSettings",
    "Params",
    "Predictive",
    "build_model",
]
