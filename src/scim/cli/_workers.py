"""Dask workers: the options that ask for them, and a client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of Dask processes on this machine that embed (needs scim-tools[dask])."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Embed on the workers of this Dask scheduler, such as tcp://node1:8786."),
]
SearchScheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Search on the workers of this Dask scheduler, such as tcp://node1:8786. The workers must find the "
        "reference at the same path.",
    ),
]


@contextmanager
def dask_client(scheduler: str | None, workers: int | None = None) -> Iterator[Any]:
    """Yield a Dask client, or None if neither workers nor a scheduler are given."""
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise ValueError("--workers starts processes, and --scheduler uses running ones. Give one of the two.")
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError("--workers and --scheduler need dask.distributed: pip install 'scim-tools[dask]'.") from error
    if scheduler is not None:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            raise ConnectionError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({error}). Start one (dask scheduler), or "
                "give the address that it printed."
            ) from error
        with client:
            yield client
        return
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client
