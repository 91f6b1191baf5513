"""Bayesian deep models: any object with ``init``, ``neg_elbo`` and ``predict`` (see ``base``)."""

from distvi.models.base import Batch, Model, Params, Trainable
from distvi.models.bayesian_network import BayesianNetwork, BayesianNetworkSettings
from distvi.models.deep_gp import DeepGP, DeepGPSettings
from distvi.models.own import OwnModelSettings, as_model
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
    "OwnModelSettings",
    "Params",
    "Predictive",
    "Trainable",
    "as_model",
    "build_model",
]
