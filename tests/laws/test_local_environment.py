"""What the local engine's processes find in their environment: one thread, a device each."""

import subprocess

import pytest

from distvi.engines.coordinator.environment import gpus, server_environment, worker_environment


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)


def test_workers_have_a_device_each_and_share_where_there_are_too_few() -> None:
    seen = [worker_environment(n, ["2", "5"])["CUDA_VISIBLE_DEVICES"] for n in range(3)]
    assert seen == ["2", "5", "2"]
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(0, [])


@pytest.mark.parametrize("environment", [worker_environment(0, []), server_environment()])
def test_processes_have_one_thread(environment: dict[str, str]) -> None:
    assert "--xla_cpu_multi_thread_eigen=false" in environment["XLA_FLAGS"]
    assert environment["PJRT_NPROC"] == environment["OMP_NUM_THREADS"] == "1"


def test_the_users_flags_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--theirs")
    assert worker_environment(0, [])["XLA_FLAGS"].split()[0] == "--theirs"


@pytest.mark.parametrize(
    ("visible", "devices"), [("0,3", ["0", "3"]), ("", []), ("-1", []), ("GPU-8a", ["GPU-8a"])]
)
def test_visible_devices_are_those_to_use(
    monkeypatch: pytest.MonkeyPatch, visible: str, devices: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == devices
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpus() == []


def test_devices_are_asked_for_where_none_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "0\n1\n")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", answer)
    assert gpus() == ["0", "1"]


def test_a_driver_that_hangs_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 30)

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", hang)
    assert gpus() == []
