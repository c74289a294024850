"""Embed values that were found already, so that a verb finds them once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..counts import BLOCK_ROWS, Values
from ._encoder import Encoder
from ._run import embed_all, embed_blocks, embedding_info


def embed_values(encoder: Encoder, values: Values) -> tuple[np.ndarray, dict[str, Any]]:
    """Embed cells over the genes of an encoder; return vectors and their record, see :meth:`Encoder.embed`."""
    forward = encoder._run_on("auto", "auto")
    vectors = embed_all(forward, values, n_latent=encoder.n_latent, chunk_size=BLOCK_ROWS)
    return vectors, embedding_info(values, vectors, encoder_id=encoder.id)


def embed_value_blocks(
    encoder: Encoder, values: Values, *, start: int = 0, chunk_size: int = BLOCK_ROWS
) -> Iterator[tuple[slice, np.ndarray]]:
    """Embed the cells from ``start`` on block by block, see :meth:`Encoder.embed_chunks`."""
    yield from embed_blocks(encoder._run_on("auto", "auto"), values, chunk_size=chunk_size, start=start)
