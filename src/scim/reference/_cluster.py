"""Workers of a Dask cluster: what they are asked to do, in order, and what it means when they cannot."""

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
    """Futures that belong together: the last gives the result, the others are what it is made from."""

    result: Future
    others: tuple[Future, ...] = ()


class Cluster:
    """The workers that a client speaks to.

    Parameters
    ----------
    client
        A ``distributed.Client``, not an asynchronous one.

    Raises
    ------
    ImportError
        dask.distributed is not installed.
    TypeError, ValueError
        It is something else, or is closed.
    """

    def __init__(self, client: Any) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ImportError(_EXTRA) from error
        if not isinstance(client, Client):
            raise TypeError(
                f"client must be a distributed.Client, got {type(client).__name__}. Make one of a cluster or of the "
                "address of a scheduler: client = distributed.Client(cluster)."
            )
        if client.asynchronous:
            raise TypeError(
                "client is asynchronous, and scim waits for results. Make one with distributed.Client(...), without "
                "asynchronous=True."
            )
        if client.status != "running":
            raise ValueError(f"client is not connected to a scheduler (its status is {client.status!r}). Make another.")
        self.client: Client = client

    def threads(self) -> list[str]:
        """Addresses of the workers, each as often as it has threads, those of a node side by side."""
        return [address for address, n in sorted(self.client.nthreads().items()) for _ in range(n)]

    def warn_if_empty(self) -> None:
        """Say so where there is no worker that could begin."""
        if not self.threads():
            warn("The cluster has no worker yet; waiting for one. See client.cluster.scale() and the logs of the jobs.")

    def submit(self, function: Callable[..., Any], *args: Any, at: str | None = None) -> Future:
        """Have a worker call a function, ``at`` an address if that one is there when its turn comes.

        Functions give the same whenever they are called with the same, so that the scheduler has another worker do what
        one was at when it died.
        """
        where = {"workers": [at], "allow_other_workers": True} if at is not None else {}
        return self.client.submit(function, *args, pure=False, **where)

    def in_order(self, jobs: Iterable[Job], *, at_once: int) -> Generator[Any, None, None]:
        """Yield results in the order of the jobs, which are taken from the iterator when their turn comes.

        Parameters
        ----------
        jobs
            Submitted when they are yielded.
        at_once
            Most that are submitted and not yielded yet.
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
    """Check a client that a caller of scim gave, and say so where it has no workers."""
    cluster = Cluster(client)
    cluster.warn_if_empty()
    return cluster


@contextmanager
def explain_dask_errors() -> Iterator[None]:
    """Say what to do where Dask only says what happened."""
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise RuntimeError(
            "Workers died one after the other at the same piece of work, the last of them "
            f"{error.last_worker.address}: see their logs. Most often they lack memory: give each more, or fewer "
            "threads."
        ) from error
    except Exception as error:
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if isinstance(missing, ModuleNotFoundError) and (missing.name or "").partition(".")[0] == "scim":
            raise RuntimeError(
                f"The scheduler or a worker cannot import {missing.name}, of scim {scim_version()} here. Give all "
                "of them the environment of this process."
            ) from error
        raise


def identity(value: Any) -> Any:
    """Give back what came: the scheduler can make it again, when a worker dies that held it for others."""
    return value


def worker_name() -> str:
    """Name the worker that this runs on."""
    import socket

    from distributed import get_worker

    try:
        address = str(get_worker().address)
    except ValueError:  # outside of a task
        address = "in this process"
    return f"The Dask worker {address} on {socket.gethostname()}"


def check_version(version: str) -> None:
    """Refuse work that another scim handed out.

    Raises
    ------
    RuntimeError
        The versions differ.
    """
    if version != scim_version():
        raise RuntimeError(
            f"{worker_name()} has scim {scim_version()}, and the client has {version}. Give all of them the same "
            "environment."
        )


def check_there(path: str) -> Path:
    """Path of something that the client sees.

    Raises
    ------
    FileNotFoundError
        It is not there.
    """
    if not Path(path).exists():
        raise FileNotFoundError(
            f"{worker_name()} cannot see {path}. Put it on a file system that the client and all workers share, under "
            "the same path."
        )
    return Path(path)
