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
    """Files of an index with what the manifest says of each, ``bytes`` and ``sha256``; none where there is no index."""
    return {} if not facts else dict(facts.get("files", {facts["file"]: facts}))


def index_is_whole(folder: Path, facts: Mapping[str, Any], *, later: Collection[str] = ()) -> bool:
    """Whether the files of an index are what was written; if not, warn that it is made again, naming the first.

    Parameters
    ----------
    folder
        Where the index lies.
    facts
        What the manifest says of it.
    later
        Files that are compared with checksums as they are read.
    """
    for name, fact in index_files(facts).items():
        path = folder / name
        if name in later or _is_what_was_written(path, fact):
            continue
        warn(
            f"The index file {path} is missing or damaged, and the index is made again in memory. Reference.reindex() "
            "writes it."
        )
        return False
    return True


def _is_what_was_written(path: Path, fact: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == fact["bytes"] and sha256(path) == fact["sha256"]
    except OSError:  # missing, or another user's alone
        return False


#: Endings of the files of an index: codes; place of each cell's vector; vectors in the order of the lists; the rest.
CODES = ".faiss"


ROWS = ".rows.i32"


ORDERED = ".vectors.i16"


REST = ".safetensors"


@dataclass(frozen=True, eq=False)
class Opened:
    """An index in memory.

    Attributes
    ----------
    codes
        Codes of the cells, in lists.
    vectors
        Vectors to rank candidates by.
    effort
        How far to search.
    """

    codes: ShortCodes
    vectors: ListOrderedVectors
    effort: FilteredEffort


def effort_of(rest: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> FilteredEffort:
    """How far to search, by what was measured when the index was built."""
    sample = rest["sample_lists"], rest["sample_positions"]
    return FilteredEffort(facts["trials"], float(facts["target"]), rest["sizes"], sample)


def selector_of(allowed: np.ndarray) -> Any:
    """Tell faiss which cells may be found: a bit for each, which it keeps."""
    import faiss

    selector: Any = faiss.IDSelectorBitmap  # faiss's own types know of the two arguments in C++ only
    return selector(np.packbits(allowed, bitorder="little"))
