"""Vectors of cells for search.py: types in families, studies with shifts of their own, one study held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

#: Dimensions of the embedding and of what it is made from; types and studies; cells made at a time.
D, LATENT, TYPES, STUDIES, CHUNK = 128, 24, 200, 300, 250_000
#: The study that no reference holds.
HELD_OUT = 17


class Atlas:
    """Cells of 200 types in 300 studies, unit vectors of low intrinsic dimension.

    Types lie in 40 families of 8 lineages; a study moves all its cells, and each type a little further; within a type
    a decaying covariance of its own in 24 dimensions, lifted to 128 by a smooth map, and noise. A chunk depends on the
    seed and its number alone.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        lineages = rng.normal(size=(8, LATENT)) * 1.6
        families = lineages[rng.integers(0, 8, 40)] + rng.normal(size=(40, LATENT)) * 0.9
        self.means = (families[rng.integers(0, 40, TYPES)] + rng.normal(size=(TYPES, LATENT)) * 0.55).astype("f4")
        spread = 0.60 * np.exp(-np.arange(LATENT) / 18.0)
        rotations = [np.linalg.qr(rng.normal(size=(LATENT, LATENT)))[0] for _ in range(TYPES)]
        self.spread = np.stack([r * (spread * rng.uniform(0.6, 1.4, LATENT)) for r in rotations]).astype("f4")
        self.study_shift = (rng.normal(size=(STUDIES, LATENT)) * 0.22).astype("f4")
        self.type_shift = (rng.normal(size=(STUDIES, TYPES, LATENT)) * 0.12).astype("f4")
        self.lift = (rng.normal(size=(2, LATENT, D)) / np.sqrt(LATENT)).astype("f4")
        self.bias = rng.normal(size=D).astype("f4")
        in_study = rng.random((STUDIES, TYPES)) < 0.25
        in_study[:, :3] = True
        weight = in_study / np.arange(1, TYPES + 1) ** 0.8
        self.type_cumulative = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
        self.study_share = rng.lognormal(0, 1.1, STUDIES)
        self.study_share[HELD_OUT] = 0
        self.study_share /= self.study_share.sum()
        rank = 1 / np.arange(1, 41)
        self.tissue_of_study = rng.choice(40, STUDIES, p=rank / rank.sum())

    def chunk(self, i: int, n: int = CHUNK, *, study: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors float32 (n, 128), studies and types int16 (n,); of one study where it is given."""
        rng = np.random.default_rng([1, i])
        studies = np.full(n, study) if study is not None else rng.choice(STUDIES, n, p=self.study_share)
        draw, types = rng.random(n), np.empty(n, dtype=np.int64)
        for s in np.unique(studies):
            types[studies == s] = np.searchsorted(self.type_cumulative[s], draw[studies == s])
        types = np.minimum(types, TYPES - 1)
        z = self.means[types] + self.study_shift[studies] + self.type_shift[studies, types]
        noise = rng.standard_normal((n, LATENT), dtype="f4")
        order = np.argsort(types, kind="stable")
        bounds = np.searchsorted(types[order], np.arange(TYPES + 1))
        for t in np.unique(types):
            mine = order[bounds[t] : bounds[t + 1]]
            z[mine] += noise[mine] @ self.spread[t].T
        x = z @ self.lift[0] + 0.6 * np.tanh(z @ self.lift[1] + self.bias)
        x += rng.standard_normal((n, D), dtype="f4") * 0.09
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x, studies.astype(np.int16), types.astype(np.int16)

    def held_out(self, n: int) -> dict[str, np.ndarray]:
        """Queries (n, 128): cells of the reference's studies that it does not hold, and cells of a study of none."""
        return {
            "held_out_cells": self.chunk(999_999, n)[0],
            "held_out_study": self.chunk(999_998, n, study=HELD_OUT)[0],
        }


def write_vectors(folder: Path, n_cells: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write the vectors of ``n_cells`` as a reference stores them; the file, the studies and the types of the cells."""
    from scim.index._vectors import to_fixed

    path = folder / f"vectors-{n_cells}.i16"

    def make() -> dict[str, np.ndarray]:
        atlas = Atlas()
        studies, types = np.empty(n_cells, dtype=np.int16), np.empty(n_cells, dtype=np.int16)
        with open(path, "wb") as file:
            for i, start in enumerate(range(0, n_cells, CHUNK)):
                n = min(CHUNK, n_cells - start)
                x, s, t = atlas.chunk(i)
                file.write(to_fixed(x[:n]).tobytes())
                studies[start : start + n], types[start : start + n] = s[:n], t[:n]
        return {"studies": studies, "types": types}

    cells = kept(folder / f"cells-{n_cells}.npz", make)
    return path, cells["studies"], cells["types"]


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that an earlier run wrote, or that are made now."""
    if not path.is_file():
        np.savez(path, **make())
    with np.load(path) as arrays:
        return dict(arrays)
