"""Search a reference on a Dask cluster."""
