"""Engine `ray` beside engine `local`, and its numbers beside a bare pair of sockets.

    python -m benchmarks.cluster [--batch 500] [--rounds 7]

Both engines train the MNIST model with two asynchronous workers and one server on this machine, in
turn; ratios of examples per second are taken within rounds. Then as many bytes as the parameters
have are pushed and pulled between two processes over ZeroMQ, by the frames of the engine and bare.
"""

import argparse
import multiprocessing
import time
from statistics import median
from typing import Any

import numpy as np
import zmq

from benchmarks.distvi_step import Distvi
from distvi.engines.ray.messages import Part, Pull, Push
from distvi.engines.ray.sockets import Keys, Sockets, read, receive, receive_from, send

BYTES = 4_419_544  # the parameters of the MNIST model
UPDATES = 60
ROUNDS_OF_BYTES = 60


def compare_engines(batch: int, rounds: int) -> None:
    """Examples per second, in turn."""
    shape: dict[str, Any] = {"scheme": "async", "workers": 2, "servers": 1}
    contenders = {
        "local": Distvi(engine="local", **shape),
        "ray": Distvi(engine="ray", replicas=0, **shape),
        "ray, with a backup": Distvi(engine="ray", replicas=1, **shape),
    }
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for name in ("ray", "ray, with a backup"):
        ours, theirs = Distvi(engine="local", **shape), contenders[name]
        with ours, theirs:
            for each in (ours, theirs):
                each.prepare(batch)
            ratios = []
            for _ in range(rounds):
                local_s = ours.run(UPDATES, batch)
                ray_s = theirs.run(UPDATES, batch)
                took["local"].append(local_s)
                took[name].append(ray_s)
                ratios.append(local_s / ray_s)
        rate = batch * UPDATES / median(took[name])
        print(
            f"{name}: {rate:.0f} examples per second; of engine local's "
            f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    print(f"local: {batch * UPDATES / median(took['local']):.0f} examples per second")


def _echo(address: str, keys: Keys | None) -> None:
    """The other process: takes a push and gives a pull, in the engine's frames."""
    sockets = Sockets(keys)
    socket = sockets.connected(address, "worker")
    payload, parameters = np.zeros(BYTES, np.uint8), np.zeros(BYTES, np.uint8)
    send(socket, Pull(0, 0))
    while isinstance(receive(socket), Part):
        read(socket, [parameters])
        send(socket, Push(0, 1), [payload])
        send(socket, Pull(0, 0))
    sockets.close()


def framed(keys: Keys | None) -> list[float]:
    """Seconds of a pull and a push, in the engine's frames."""
    sockets = Sockets(keys)
    socket, address = sockets.bound("tcp://127.0.0.1")
    other = multiprocessing.get_context("spawn").Process(target=_echo, args=(address, keys))
    other.start()
    payload, parameters = np.zeros(BYTES, np.uint8), np.zeros(BYTES, np.uint8)
    took = []
    receive_from(socket)
    for _ in range(ROUNDS_OF_BYTES):
        before_s = time.perf_counter()
        send(socket, Part(0, 0, 0), [parameters], to="worker")
        receive_from(socket)
        read(socket, [payload])
        receive_from(socket)
        took.append(time.perf_counter() - before_s)
    send(socket, Push(0, 0), to="worker")
    other.join()
    sockets.close()
    return took


def _bare_echo(address: str) -> None:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.connect(address)
        while len(message := socket.recv(copy=False)) > 1:
            socket.send(message, copy=False)


def bare() -> list[float]:
    """Seconds of the same bytes there and back over a bare pair."""
    took = []
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        address = f"tcp://127.0.0.1:{port}"
        other = multiprocessing.get_context("spawn").Process(target=_bare_echo, args=(address,))
        other.start()
        payload = bytearray(BYTES)
        for _ in range(ROUNDS_OF_BYTES):
            before_s = time.perf_counter()
            socket.send(payload, copy=False)
            socket.recv(copy=False)
            took.append(time.perf_counter() - before_s)
        socket.send(b"")
        other.join()
    return took


def compare_sockets(rounds: int) -> None:
    """Milliseconds of 4.4 MB there and 4.4 MB back."""
    ratios: dict[str, list[float]] = {"frames": [], "frames, encrypted": []}
    floors = []
    for _ in range(rounds):
        floors.append(floor := median(bare()))
        ratios["frames"].append(median(framed(None)) / floor)
        ratios["frames, encrypted"].append(median(framed(Keys.new())) / floor)
    print(f"bare pair: {1e3 * median(floors):.2f} ms for {BYTES / 1e6:.1f} MB there and back")
    for name, values in ratios.items():
        print(f"{name}: {median(values):.2f} times that ({min(values):.2f} to {max(values):.2f})")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    compare_sockets(min(arguments.rounds, 5))
    compare_engines(arguments.batch, arguments.rounds)


if __name__ == "__main__":
    main()
