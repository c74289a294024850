"""Files of an index: which there are, whether they are whole, and how they are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import sha256
from .._warn import warn
from ._effort import FilteredEffort
from ._pq_codes import ShortCodes
from ._rerank import ListOrderedVectors


def index_files(facts: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Files of an index with what the manifest says of each, ``bytes`` and ``sha256``; none if there is no index."""
    return {} if not facts else dict(facts.get("files", {facts["file"]: facts}))


def index_is_whole(folder: Path, facts: Mapping[str, Any], *, later: Collection[str] = ()) -> bool:
    """Check whether the files of an index are complete; if not, warn that the index is built again.

    ``facts`` are what the manifest says of the index. Files in ``later`` are checked when they are read, not here.
    """
    for name, fact in index_files(facts).items():
        path = folder / name
        if name in later or _is_as_written(path, fact):
            continue
        warn(
            f"The index file {path} is missing or damaged, and the index is made again in memory. Reference.reindex() "
            "writes it."
        )
        return False
    return True


def _is_as_written(path: Path, fact: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == fact["bytes"] and sha256(path) == fact["sha256"]
    except OSError:  # missing, or not ours to read
        return False


#: Ending of the file of codes.
CODES = ".faiss"
#: Ending of the file with the place of each cell's vector, int32.
ROWS = ".rows.i32"
#: Ending of the file of vectors in the order of the lists, int16.
ORDERED = ".vectors.i16"
#: Ending of the file of everything else.
REST = ".safetensors"


@dataclass(frozen=True, eq=False)
class Opened:
    """An index in memory: codes of the cells in lists, vectors to rank candidates by, and how far to search."""

    codes: ShortCodes
    vectors: ListOrderedVectors
    effort: FilteredEffort


def effort_of(rest: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> FilteredEffort:
    """Read how far to search, as measured when the index was built."""
    sample = rest["sample_lists"], rest["sample_positions"]
    return FilteredEffort(facts["trials"], float(facts["target"]), rest["sizes"], sample)


def selector_of(bits: np.ndarray) -> Any:
    """Tell faiss which cells may be found: uint8, a bit for each, the lowest first, which faiss keeps."""
    import faiss

    selector: Any = faiss.IDSelectorBitmap  # faiss's own types know of the two arguments in C++ only
    return selector(bits)
