"""A run on a cluster whose links the caller cuts; its argument is the settings.

Trains up to an update, says where the server is, waits for a line, and goes on to the end.
"""

import json
import sys
from typing import Any

import jax
import ray

from distvi.aggregation import sync
from tests import linear


def tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    settings = json.loads(sys.argv[1])
    cut = settings.pop("cut")
    engine: Any = linear.ray(settings, sync(), workers=2, address="auto", silence_s=4.0)
    with engine:
        engine.advance(cut)
        hosts = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        tell(hosts[engine._fleet.processes["server", 0].node])
        sys.stdin.readline()
        engine.advance(settings["updates"])
        params = jax.tree.map(lambda leaf: leaf.tolist(), engine.state.params)
        incidents = engine.statistics["incidents"]
    tell({"params": params, "incidents": incidents})


if __name__ == "__main__":
    main()
