"""An exploration on a real Dask cluster of two worker processes, one of which dies; and clusters that are not there."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hlsgen.errors import HlsgenError
from hlsgen.explore.run import ExploreOptions, explore
from hlsgen.progress import Quiet

pytest.importorskip("distributed", reason="dask.distributed, the extra 'dask', is not installed")
ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ExploreOptions(
    models=("yolo",),
    parts=("xc7z020",),
    out=Path(),
    clocks=(150.0, 200.0),
    budgets=("40%", "60%", "80%", "100%"),
    weights="demo",
    imgsz=(96, 96),
)


class Cluster:
    """A scheduler and two workers, each a process of its own, with nobody to restart them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes, self.contact = folder, [], folder / "scheduler.json"
        self.start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.contact))
        self.url = "dask://" + str(self._address()).removeprefix("tcp://")
        for _ in range(2):
            self.start(
                "worker", "--scheduler-file", str(self.contact), "--no-nanny", "--nthreads", "1", "--no-dashboard"
            )

    def start(self, *arguments: str) -> None:
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "dask", *arguments]
            self.processes.append(
                subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )

    def _address(self) -> str:
        for _ in range(600):
            try:
                return str(json.loads(self.contact.read_text())["address"])
            except (OSError, ValueError, KeyError):
                time.sleep(0.05)
        raise AssertionError((self.folder / "0.log").read_text())

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    found = Cluster(tmp_path / "cluster")
    yield found
    found.stop()


class Killer(Quiet):
    """Kills one worker, without warning, when two points have come back."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.killed_at = cluster, 0

    def step(self, done: int, total: int) -> None:
        if not self.killed_at and done == 2 and total > 2:
            self.killed_at = done
            self.cluster.processes[1].kill()


def test_a_worker_dies_and_every_point_still_comes_out(cluster: Cluster, tmp_path: Path) -> None:
    killer = Killer(cluster)
    found, came = explore(replace(OPTIONS, out=tmp_path / "dask", executor=cluster.url), killer)
    assert killer.killed_at == 2
    assert cluster.processes[1].wait(10) < 0
    assert cluster.processes[2].poll() is None
    assert came == {"points": 8, "taken_over": 0, "priced": 8}
    serial, _ = explore(replace(OPTIONS, out=tmp_path / "serial"))
    assert found == serial
    for name in ("explore.json", "explore.csv", "explore.html"):
        assert (tmp_path / "dask" / name).read_bytes() == (tmp_path / "serial" / name).read_bytes()
    # the whole cluster may be gone when every point is there
    cluster.stop()
    again, came = explore(replace(OPTIONS, out=tmp_path / "dask", executor=cluster.url))
    assert again == serial
    assert came["taken_over"] == 8


def test_a_cluster_without_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hlsgen.explore import dask_cluster

    monkeypatch.setattr(dask_cluster, "ANSWER_S", 1)
    (tmp_path / "cluster").mkdir()
    lonely = Cluster(tmp_path / "cluster")
    for worker in lonely.processes[1:]:
        worker.kill()
    try:
        with pytest.raises(
            HlsgenError, match=r"the cluster at dask://.+ has no workers; start some with 'dask worker "
        ):
            explore(replace(OPTIONS, out=tmp_path / "out", executor=lonely.url))
    finally:
        lonely.stop()


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(HlsgenError, match=rf"no cluster answers at dask://127.0.0.1:{port} \(Connection refused\)"):
        explore(replace(OPTIONS, out=tmp_path / "out", executor=f"dask://127.0.0.1:{port}"))


def test_something_else_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hlsgen.explore import dask_cluster

    monkeypatch.setattr(dask_cluster, "ANSWER_S", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(HlsgenError, match="is no Dask scheduler that this version understands"):
            explore(replace(OPTIONS, out=tmp_path / "out", executor=f"dask://127.0.0.1:{port}"))
    assert time.monotonic() - began < 30
