"""A study small enough for tests of everything around it: cells of a few updates."""

from pathlib import Path

BASE = """
title = "Small"
seeds = {seeds}

[base.data]
dataset = "digits"

[base.model]
hidden_layers = 1
width = 2
features = 4
test_samples = 2

[base.training]
batch_size = 16

[base.engine]
kind = "simulated"
workers = 2

[stop]
updates = {updates}

[tests]
number = 2
samples = 1
"""

BLOCKS = """
[[blocks]]
name = "main"
axes = { scheme = ["sync", "async"], learning_rate = [0.001, 0.01] }
"""


def write_study(path: Path, blocks: str = BLOCKS, *, seeds: int = 2, updates: int = 6) -> Path:
    """The TOML file of a study."""
    path.write_text(BASE.format(seeds=seeds, updates=updates) + blocks)
    return path
