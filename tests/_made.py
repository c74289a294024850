"""Encoders and names that tests of several rooms share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scim
from scim.genes import GeneSpace, canonical
from scim.genes._organism import ortholog_table
from scim.index import IndexPlan

#: 10x channel -> study, of the bundled blood cells.
STUDIES = {"1": "first", "2": "first", "3": "first", "4": "second", "5": "second", "6": "second"}


def random_encoder(genes: GeneSpace, n_latent: int = 16, seed: int = 0) -> scim.Encoder:
    """One random matrix: a projection, which keeps like cells together."""
    matrix = np.random.default_rng(seed).normal(size=(n_latent, len(genes))).astype(np.float32)
    return scim.Encoder(genes, {"output.weight": matrix, "output.bias": np.zeros(n_latent, dtype=np.float32)})


_PLAN_OF = IndexPlan.of


def index_sizes(patch: pytest.MonkeyPatch, **sizes: Any) -> None:
    """Give the indexes of references other sizes, see :class:`scim.index.IndexPlan`: built, opened and served."""
    patch.setattr(IndexPlan, "of", classmethod(lambda _, facts: replace(_PLAN_OF(facts), **sizes)))


def as_mouse(adata: AnnData, *, ids: bool = False) -> AnnData:
    """Rename human genes to their mouse orthologues, symbols or Ensembl ids; others get names of no gene: Gm9..."""
    table = ortholog_table()
    back: dict[str, str] = {}
    for mouse, human in (table.by_ensembl if ids else table.by_symbol).items():
        back.setdefault(human, mouse)
    # Each mouse gene is given once.
    names = [back.pop(canonical(name)[0], f"Gm{900_000 + i}") for i, name in enumerate(adata.var_names)]
    renamed = adata.copy()
    renamed.var = pd.DataFrame(index=names)
    return renamed


def shared_with(mouse: AnnData, human: AnnData) -> AnnData:
    """Genes of ``human`` that :func:`as_mouse` renamed."""
    return human[:, ~mouse.var_names.str.startswith("Gm9")].copy()
