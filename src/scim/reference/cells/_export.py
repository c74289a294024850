"""Export cells as an AnnData, and query them in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _keys
from ..store import CELL_ID
from ._metadata import Metadata

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def to_anndata(metadata: Metadata, rows: np.ndarray, vectors: np.ndarray, *, encoder_id: str) -> AnnData:
    """Make an AnnData without genes from the cells at ``rows`` and their vectors, float32 (n, n_latent)."""
    from anndata import AnnData

    obs = metadata.frame(rows)
    if "row" not in obs:
        obs.insert(0, "row", rows)
    obs = obs.set_index(CELL_ID).rename_axis(None)
    obs.index = obs.index.astype(str)
    adata = AnnData(obs=obs)
    adata.obsm[_keys.obsm_embedding()] = vectors
    adata.uns[_keys.DEFAULT] = {"embed": {"encoder_id": encoder_id}}
    return adata


def ask_sql(metadata: Metadata, query: str) -> pd.DataFrame:
    """Run an SQL query on the metadata with DuckDB, as :meth:`scim.Reference.sql` does."""
    try:
        import duckdb
    except ImportError as error:
        raise ImportError("Reference.sql needs DuckDB: pip install 'scim-tools[sql]'.") from error
    import pyarrow as pa

    metadata.check(metadata.columns)
    rows, has_row_column = np.arange(metadata.n_rows), "row" in metadata.columns
    table = metadata.table.append_column("__row", pa.array(rows))
    view = f"create view cells as select * exclude (__row){'' if has_row_column else ', __row as row'} from __all"
    # Otherwise DuckDB downloads the extensions that a query needs.
    config: dict[str, Any] = {"autoinstall_known_extensions": "false"}
    with duckdb.connect(config=config) as connection:
        connection.register("__all", table)
        if metadata.living is not None:
            connection.register("__gone", pa.table({"__row": rows[~metadata.living]}))
            view += " anti join __gone using (__row)"
        connection.execute(view)
        try:
            answer = connection.execute(query)
            if answer is None:
                raise ValueError("The query is empty. Write, for example: select label, count(*) from cells group by 1")
            return answer.df()
        except duckdb.Error as error:
            raise ValueError(f"DuckDB cannot run the query: {error}") from error
