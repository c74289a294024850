"""IndexPlan: which index a reference gets, and from which sizes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .._validate import check_fraction, check_option, check_positive_int

BACKENDS = ("auto", "exact", "faiss", "pynndescent")
#: Share of the true neighbours that a search finds by default.
RECALL = 0.98


@dataclass(frozen=True)
class IndexPlan:
    """Which index to build or open, and the sizes at which its kind changes.

    Attributes
    ----------
    backend
        One of :data:`BACKENDS`.
    recall
        Share of the true neighbours to find, 0 to 1.
    seed
        Seed of centres, trials and graphs.
    index_from_cells
        Build an index from this many cells on; fewer are compared one by one.
    short_codes_from_cells
        Build an index of short codes from this many cells on.
    exact_below_cells
        Compare one by one, instead of looking up short codes, if a search may find this many cells or fewer.
    beyond_index_share
        Build the index again if the cells added since are more than this share of those in it, and more than
        ``index_from_cells``.
    part_cells
        Fewest and most cells in a part of an index that a cluster serves.
    parts_per_thread
        Parts of such an index for each thread of the cluster.
    served_queries
        Queries that are sent to a cluster at a time.
    """

    backend: str = "auto"
    recall: float = RECALL
    seed: int = 0
    index_from_cells: int = 20_000
    short_codes_from_cells: int = 100_000
    exact_below_cells: int = 30_000
    beyond_index_share: float = 0.1
    part_cells: tuple[int, int] = (250_000, 8_000_000)
    parts_per_thread: int = 1
    served_queries: int = 4_096

    def __post_init__(self) -> None:
        check_option(self.backend, BACKENDS, argument="backend")
        seed = check_positive_int(self.seed, argument="seed", minimum=0, maximum=2**31 - 1)  # of faiss
        object.__setattr__(self, "seed", seed)
        check_fraction(self.recall, argument="recall")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Read the plan of a reference from its manifest. References get every plan from here."""
        return cls(str(facts["backend"]), float(facts.get("recall", RECALL)), int(facts["seed"]))

    def most_beyond(self, n_indexed: int) -> float:
        """Most cells that may be searched besides an index of ``n_indexed`` cells."""
        return max(self.index_from_cells, self.beyond_index_share * n_indexed)
