"""Draw cells around mean expression profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._validate import check_fraction, check_positive_int, get_adata

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Standard deviation of the logarithm of the number of counts of a cell.
_DEPTH_SPREAD = 0.5
#: Largest mean share of ambient RNA; the share of a cell is drawn between 0 and twice the mean.
_MAX_AMBIENT = 0.5


def cells_from_profiles(
    profiles: AnnData,
    n_cells: int = 30,
    *,
    depth: float = 3_000,
    dispersion: float = 0.3,
    ambient: float = 0.05,
    seed: int = 0,
) -> AnnData:
    """Draw cells around the mean expression profiles of one study.

    Many studies are published as the mean expression of each cell type only. Cells drawn around these means can train a
    model, and stand for the study in a reference. For each drawn cell:

    - the number of counts is log-normal around ``depth``, with a standard deviation of 0.5 of its logarithm,
    - a share of the expression, uniform from 0 to twice ``ambient``, is the mean of all profiles: RNA of other cells,
    - the share of each gene varies by a gamma distribution with variance ``dispersion`` around a mean of 1,
    - counts are Poisson around these shares. So counts are negative binomial, as in single-cell data (Grün, Kester &
      van Oudenaarden, Nat Methods 2014; Svensson, Nat Biotechnol 2020).

    Drawn cells have no cell states, no doublets and no donors, and the genes of a drawn cell vary independently.

    Parameters
    ----------
    profiles
        A row is the mean expression of a cell type, in linear values of any scale (counts, counts per million), shape
        (n_profiles, n_genes). Keep only genes that the study measured: other genes would count as not expressed.
    n_cells
        Number of cells of each profile.
    depth
        Median number of counts of a cell.
    dispersion
        Variance of the gamma distribution: 0.3 is typical of cells of one type and donor.
    ambient
        Mean share of RNA of other cells, at most 0.5.
    seed
        Seed of the draws. The cells of a profile depend on its place, not on the other profiles but for ambient RNA.

    Returns
    -------
    A new AnnData of ``n_profiles * n_cells`` cells with counts as a float32 CSR matrix. ``obs`` repeats the columns of
    the profiles, and has two more: ``origin``, which is ``"drawn from a profile"``, and ``profile``, the name of the
    profile. Cells are named ``"PROFILE:0"``, ``"PROFILE:1"``, and so on.

    Raises
    ------
    TypeError
        ``profiles`` is no AnnData.
    ValueError
        There is no profile, a profile has no expression or negative or non-finite values, or an option is out of range.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, scim
    >>> means = ad.AnnData(np.array([[9.0, 1.0], [1.0, 9.0]]), var=pd.DataFrame(index=["CD3E", "NKG7"]))
    >>> means.obs_names = ["T cell", "NK cell"]
    >>> cells = scim.pp.cells_from_profiles(means, 2)
    >>> list(cells.obs_names)
    ['T cell:0', 'T cell:1', 'NK cell:0', 'NK cell:1']
    """
    import anndata
    from scipy import sparse

    adata = get_adata(profiles)
    n_cells = check_positive_int(n_cells, argument="n_cells")
    check_fraction(ambient, argument="ambient", high=_MAX_AMBIENT)
    for name, value in (("depth", depth), ("dispersion", dispersion)):
        if not np.isfinite(value) or value <= 0:
            raise ValueError(f"{name} must be a positive number, got {value!r}.")
    shares = _shares(adata)
    others = shares.mean(axis=0)
    blocks = []
    for place, share in enumerate(shares):
        rng = np.random.default_rng([seed, place])
        foreign = rng.uniform(0, 2 * ambient, n_cells)
        mean = (1 - foreign)[:, None] * share + foreign[:, None] * others
        depths = rng.lognormal(np.log(depth), _DEPTH_SPREAD, n_cells)
        blocks.append(_counts(mean, depths, dispersion, rng))
    obs = adata.obs.loc[np.repeat(adata.obs_names.to_numpy(), n_cells)].copy()
    obs["profile"] = pd.Categorical(obs.index.astype(str))
    obs["origin"] = pd.Categorical(["drawn from a profile"] * len(obs))
    obs.index = [f"{name}:{i}" for name in adata.obs_names for i in range(n_cells)]
    return anndata.AnnData(sparse.vstack(blocks, format="csr"), obs=obs, var=adata.var.copy())


def _shares(adata: AnnData) -> np.ndarray:
    """Share of each gene in each profile, float64 (n_profiles, n_genes), checked."""
    from scipy import sparse

    if not adata.obs_names.is_unique:
        raise ValueError("Two profiles have the same name. Call profiles.obs_names_make_unique() first.")
    values = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(
            "profiles holds negative or non-finite values. Give linear means, such as mean counts: undo logarithms, "
            "and do not scale genes."
        )
    sums = values.sum(axis=1)
    if (sums <= 0).any():
        names = ", ".join(map(str, adata.obs_names[sums <= 0][:5]))
        raise ValueError(f"{int((sums <= 0).sum())} profiles have no expression, such as {names}. Remove them.")
    return np.asarray(values / sums[:, None])


def _counts(mean: np.ndarray, depths: np.ndarray, dispersion: float, rng: np.random.Generator) -> csr_matrix:
    """Draw counts around shares (n_cells, n_genes), with ``depths`` (n_cells,) counts."""
    from scipy import sparse

    rates = mean * rng.gamma(1 / dispersion, dispersion, mean.shape)
    rates *= (depths / np.maximum(rates.sum(axis=1), 1e-12))[:, None]
    return sparse.csr_matrix(rng.poisson(rates).astype(np.float32))
