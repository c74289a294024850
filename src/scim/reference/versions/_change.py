"""Changes of a reference: add, remove, compact, reindex."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..store import open_cells

if TYPE_CHECKING:
    import pyarrow as pa


def living_tables(cells: Iterable[tuple[Path, int]], living: np.ndarray | None) -> Iterator[pa.Table]:
    """Metadata of segments, batch by batch, without the cells that were removed."""
    import pyarrow as pa

    start = 0
    for folder, n_cells in cells:
        for batch in open_cells(folder, n_cells).to_batches(max_chunksize=65_536):
            table = pa.Table.from_batches([batch])
            if living is not None:
                table = table.filter(pa.array(living[start : start + len(batch)]))
            start += len(batch)
            if table.num_rows:
                yield table
