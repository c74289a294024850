"""Workers of a Dask cluster: submit tasks, return results in order, and explain errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import scim_version
from .._warn import warn

if TYPE_CHECKING:
    from distributed import Client, Future

_EXTRA = "client= needs dask.distributed: pip install 'scim-tools[dask]'."


@dataclass(frozen=True, eq=False)
class Job:
    """Futures of one result. The others are the futures that ``result`` is computed from."""

    result: Future
    others: tuple[Future, ...] = ()


class Cluster:
    """The workers of a client.

    Parameters
    ----------
    client
        A ``distributed.Client`` that is not asynchronous.

    Raises
    ------
    ImportError, TypeError, ValueError
        dask.distributed is not installed; ``client`` is not such a client; it is closed.
    """

    def __init__(self, client: Any) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ImportError(_EXTRA) from error
        if not isinstance(client, Client):
            raise TypeError(
                f"client must be a distributed.Client, got {type(client).__name__}. Create it from a cluster "
                "or from the address of a scheduler: client = distributed.Client(cluster)."
            )
        if client.asynchronous:
            raise TypeError(
                "client is asynchronous, and scim waits for results. Create it with distributed.Client(...), without "
                "asynchronous=True."
            )
        if client.status != "running":
            raise ValueError(
                f"client is not connected to a scheduler (its status is {client.status!r}). Create another client."
            )
        self.client: Client = client

    def threads(self) -> list[str]:
        """Return the addresses of the workers, once for each thread, so that threads of a node stand together."""
        return [address for address, n in sorted(self.client.nthreads().items()) for _ in range(n)]

    def submit(self, function: Callable[..., Any], *args: Any, at: str | None = None) -> Future:
        """Call a function on a worker, on the one at the address ``at`` if it is there.

        If the worker dies, the scheduler runs the task on another worker. A function must return the same result for
        the same arguments.
        """
        where = {"workers": [at], "allow_other_workers": True} if at is not None else {}
        return self.client.submit(function, *args, pure=False, **where)

    def in_order(self, jobs: Iterable[Job], *, at_once: int) -> Generator[Any, None, None]:
        """Yield the results of jobs in their order.

        The iterator submits a job when it yields it. At most ``at_once`` jobs are submitted and not finished.
        """
        jobs, running = iter(jobs), deque[Job]()
        try:
            with explain_dask_errors():
                running.extend(islice(jobs, at_once))
                while running:
                    result = running[0].result.result()
                    running.popleft()
                    running.extend(islice(jobs, 1))
                    yield result
        finally:
            if running and self.client.status == "running":
                self.client.cancel([future for job in running for future in (job.result, *job.others)])


def connect(client: Any) -> Cluster:
    """Check the client that a user gave, and warn if it has no workers."""
    cluster = Cluster(client)
    if not cluster.threads():
        warn("The cluster has no worker. Waiting for a worker. See client.cluster.scale() and the logs of the jobs.")
    return cluster


@contextmanager
def explain_dask_errors() -> Iterator[None]:
    """Add what the user can do to errors of Dask."""
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise RuntimeError(
            "Workers died one after the other at the same task, last the worker "
            f"{error.last_worker.address}. Look into their logs. Most often they lack memory: give each worker more "
            "memory, or fewer threads."
        ) from error
    except Exception as error:
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if isinstance(missing, ModuleNotFoundError) and (missing.name or "").partition(".")[0] == "scim":
            raise RuntimeError(
                f"The scheduler or a worker cannot import {missing.name}, of scim {scim_version()} here. Give "
                "the scheduler and all workers the environment of this process."
            ) from error
        raise


def identity(value: Any) -> Any:
    """Return the argument. As a task, so that the scheduler can repeat it if the worker that holds it dies."""
    return value


def worker_name() -> str:
    """Return the name of the worker that runs this function."""
    import socket

    from distributed import get_worker

    try:
        address = str(get_worker().address)
    except ValueError:  # outside of a task
        address = "in this process"
    return f"The Dask worker {address} on {socket.gethostname()}"


def check_version(version: str) -> None:
    """Raise a RuntimeError if the client has another version of scim than this worker."""
    if version != scim_version():
        raise RuntimeError(
            f"{worker_name()} has scim {scim_version()}, and the client has {version}. Give the client and "
            "all workers the same environment."
        )


def check_there(path: str) -> Path:
    """Return a path that the client sees, or raise a FileNotFoundError if this worker does not see it."""
    if not Path(path).exists():
        raise FileNotFoundError(
            f"{worker_name()} cannot see {path}. Put it on a file system that the client and all workers share, under "
            "the same path."
        )
    return Path(path)
