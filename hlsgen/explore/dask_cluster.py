"""Points priced by a user's Dask cluster, through joblib's dask backend. Needs dask.distributed, an optional extra."""

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import joblib
from distributed import Client, WorkerPlugin, rpc

from hlsgen.errors import HlsgenError
from hlsgen.explore.executors import Pricer
from hlsgen.explore.network import Network
from hlsgen.explore.price import Facts, hold, price
from hlsgen.explore.space import Point, code

ANSWER_S = 5  # seconds in which scheduler and workers must answer
SILENCE_S = 300  # seconds without any finished point after which the cluster counts as gone


class _Networks(WorkerPlugin):
    """Gives the networks to every worker, those too that join later or come back: no task depends on one worker's memory."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = networks

    def setup(self, worker: Any) -> None:
        for network in self.networks:
            hold(network)


@contextmanager
def cluster(host: str, port: int, networks: Sequence[Network]) -> Iterator[Pricer]:
    """The workers of the scheduler at `host:port`. A worker that dies costs time only: its points go to the others.

    Raises:
        HlsgenError: nobody answers there, it is no Dask scheduler, it has no workers, or they have another hlsgen.
    """
    where = f"dask://{host}:{port}"
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # lost workers are the scheduler's business
    client = _client(host, port, where)
    try:
        _check_workers(client, where)
        name = f"hlsgen-{'-'.join(network.digest[:12] for network in networks)}"
        client.register_plugin(_Networks(tuple(networks)), name=name)

        def run(points: Sequence[Point]) -> Iterator[Facts]:
            calls = [joblib.delayed(price)(point, code()) for point in points]
            with joblib.parallel_config(backend="dask", client=client):
                parallel = joblib.Parallel(-1, return_as="generator_unordered", batch_size=1, timeout=SILENCE_S)
                try:
                    yield from parallel(calls)
                except TimeoutError as error:
                    raise HlsgenError(
                        f"the cluster at {where} finished nothing for {SILENCE_S} s; finished points are kept, run the "
                        "same command again when its workers are back"
                    ) from error

        yield run
        client.unregister_worker_plugin(name)
    finally:
        client.close(timeout=ANSWER_S)


def _client(host: str, port: int, where: str) -> Any:
    try:
        socket.create_connection((host.strip("[]"), port), timeout=ANSWER_S).close()
    except OSError as error:
        raise HlsgenError(
            f"no cluster answers at {where} ({error.strerror or error}); start one with 'dask scheduler' and 'dask worker "
            f"{host}:{port}', or leave --executor out"
        ) from error
    address = f"tcp://{host}:{port}"
    try:
        asyncio.run(_identity(address))
        return Client(address, timeout=ANSWER_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever dask makes of another protocol or version
        raise HlsgenError(
            f"what answers at {where} is no Dask scheduler that this version understands; check the port (8786 is usual)"
        ) from error


async def _identity(address: str) -> None:
    """Raises where no Dask scheduler answers in time; Client itself would wait for ever for a server that keeps silent."""

    async def ask() -> None:
        async with rpc(address) as scheduler:  # type: ignore[no-untyped-call]
            await scheduler.identity()

    await asyncio.wait_for(ask(), ANSWER_S)


def _check_workers(client: Any, where: str) -> None:
    try:
        client.wait_for_workers(1, timeout=ANSWER_S)
    except TimeoutError as error:
        raise HlsgenError(
            f"the cluster at {where} has no workers; start some with 'dask worker {where[7:]}'"
        ) from error
    try:
        versions = client.run(code)
    except Exception as error:  # whatever unpickling does where hlsgen is missing
        raise HlsgenError(
            f"the workers of {where} cannot run hlsgen ({type(error).__name__}: {error}); install it where they run"
        ) from error
    strangers = [worker for worker, found in versions.items() if found != code()]
    if strangers:
        raise HlsgenError(
            f"{len(strangers)} of {len(versions)} workers of {where} run another hlsgen than this machine "
            f"(the first is {strangers[0]}); install the same version there"
        )
