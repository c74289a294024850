"""Sizes at which the kind of index changes."""

from __future__ import annotations

#: From this many cells on, an index is worth its place; below, every cell is compared.
WORTH = 20_000
#: From this many cells on, the index is one of short codes.
LARGE = 100_000
#: Share of the true neighbours that a search is to find by default.
RECALL = 0.98
