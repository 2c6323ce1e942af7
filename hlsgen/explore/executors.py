"""Where points are priced: processes of this machine, or a user's cluster; joblib hands them out either way."""

import importlib.util
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from hlsgen.errors import HlsgenError
from hlsgen.explore.network import Network
from hlsgen.explore.price import Facts, price
from hlsgen.explore.space import Point, code
from hlsgen.progress import Progress

Pricer = Callable[[Sequence[Point]], Iterator[Facts]]
"""The facts of the points given, in the order in which they finish."""
ROUNDS = 3  # how often points are handed out again whose process was killed


def executor(
    url: str | None, jobs: int, networks: Sequence[Network], progress: Progress
) -> AbstractContextManager[Pricer]:
    """What prices points: `jobs` processes here, or the cluster at `url`, such as dask://host:8786.

    Raises:
        HlsgenError: jobs below 1, another kind of url, a library that is not installed, a cluster that does not answer.
    """
    if jobs < 1:
        raise HlsgenError(f"--jobs expects at least 1 process, got {jobs}")
    if url is None:
        return local(jobs, networks, progress)
    found = re.fullmatch(r"([a-z]+)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", url)
    if found and found[1] == "dask" and 0 < int(found[3]) < 1 << 16:
        if importlib.util.find_spec("distributed") is None:
            raise HlsgenError("--executor dask:// needs dask.distributed: pip install 'hlsgen[dask]'")
        from hlsgen.explore.dask_cluster import cluster

        return cluster(found[2], int(found[3]), networks)
    if found and found[1] == "ray":
        raise HlsgenError(
            "--executor ray:// is not supported: joblib's Ray backend is Ray's own and untested here; give "
            "--executor dask://HOST:PORT, or --jobs N for this machine"
        )
    raise HlsgenError(f"--executor expects dask://HOST:PORT, got {url!r}; without it --jobs N processes run here")


@contextmanager
def local(jobs: int, networks: Sequence[Network], progress: Progress) -> Iterator[Pricer]:
    """Processes of this machine; with one job this process itself."""
    with tempfile.TemporaryDirectory(prefix="hlsgen-explore-") as folder:
        for network in networks:
            network.save(Path(folder))

        def run(points: Sequence[Point]) -> Iterator[Facts]:
            left = {point.key: point for point in points}
            for attempt in range(1, ROUNDS + 1):
                calls = [joblib.delayed(_price_here)(p, code(), Path(folder), os.getpid()) for p in left.values()]
                try:
                    # one thread a process: the processes already use every core
                    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
                        for facts in joblib.Parallel(min(jobs, len(calls)), return_as="generator_unordered")(calls):
                            del left[facts["key"]]
                            yield facts
                    return
                except TerminatedWorkerError as error:
                    if attempt == ROUNDS:
                        raise HlsgenError(
                            f"processes were killed {ROUNDS} times, most likely for want of memory: give fewer --jobs; "
                            "finished points are kept"
                        ) from error
                    progress.note(f"a process was killed; {len(left)} points are priced again")

        yield run


def _price_here(point: Point, made_by: str, folder: Path, parent: int) -> Facts:
    if os.getpid() != parent and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its processes
    return price(point, made_by, folder)
