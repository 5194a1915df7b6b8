from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from detrofit.comparison import ray_cluster
from detrofit.comparison.ray_cluster import RayCluster
from detrofit.errors import DetrofitError


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for given in (address, f"ray://{address}"):
        with pytest.raises(DetrofitError, match=f"no Ray cluster answers at '{given}'"):
            RayCluster(given)


def test_a_number_of_gpus_that_nobody_can_have_is_told_at_once() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(DetrofitError, match=r"--gpus 1\.5: a run has a share of one GPU, or a whole number"):
        RayCluster("auto", gpus=1.5)


PATIENT_WORKER = """
import signal, sys, time
from pathlib import Path
def save(number, frame):
    time.sleep(1)
    Path(sys.argv[1]).write_text("saved")
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
Path(sys.argv[1]).write_text("begun")
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="sends SIGTERM")
def test_jobs_of_a_study_that_ends_save_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(ray_cluster.__file__).parents[2]))
    (tmp_path / "worker.py").write_text(PATIENT_WORKER)
    monkeypatch.setattr(ray_cluster, "WORKER", (str(tmp_path / "worker.py"),))
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        executor = RayCluster(cluster.address)
        executor.start("runs", tmp_path / "runs.txt", tmp_path / "log")
        executor.start("waits", tmp_path / "waits.txt", tmp_path / "log")
        deadline = time.monotonic() + 120
        while not (tmp_path / "runs.txt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        executor.close()
    finally:
        cluster.shutdown()
    assert (tmp_path / "runs.txt").read_text() == "saved"
    assert not (tmp_path / "waits.txt").exists(), "what waited for a place never began"
