"""Counts to vectors, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ._encoder import Encoder


def embed_with(encoder: Encoder, values: csr_matrix, measured: np.ndarray) -> np.ndarray:
    """Embed cells with some of their genes, normalised over these -> unit vectors, float32 (n, d).

    Parameters
    ----------
    encoder
        What to embed with.
    values
        Counts, or what log1p was taken of, over the encoder's genes, (n, n_genes).
    measured
        Genes that are taken, bool (n_genes,).
    """
    matrix = values.copy()  # what follows works in place
    matrix.data = np.where(measured[matrix.indices], matrix.data, np.float32(0))
    matrix.eliminate_zeros()
    return encoder(matrix, kind="counts")
