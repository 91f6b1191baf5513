"""Measurements that the project makes of itself, each run as ``python -m benchmarks.NAME``."""
