"""Search a reference on a Dask cluster."""

from ._serve import serve

__all__ = ["serve"]
