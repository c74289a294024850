"""How long does the default call of annotate take, and where does the time go?

Cells of a real 10x study are annotated with the bundled reference, 700 and 3,000 of them (drawn with replacement where
there are fewer), once after the import and again with other cells. CellTypist's own ``annotate`` takes its turn in the
same run where it is installed: a logistic model of the same reference cells, trained beforehand.

Run ``python tests/benchmarks/annotate.py`` with the studies in ``SCIM_DATA`` or in ``../shared/data``. Prints one JSON
line: seconds of each call, of its parts, and the ratio to the peer.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import anndata as ad
import numpy as np
from _annotation_tasks import TERM, read

import scim
from scim.labels import LabelModel, MatchedModel
from scim.tl._cells import Expression, NewCells

#: Parts of a call: name -> class and method.
PARTS = {
    "embed": (NewCells, "read"),
    "find values": (Expression, "of"),
    "compare expression": (Expression, "compare"),
    "embed in panel genes": (Expression, "embed"),
    "match heads": (LabelModel, "matched"),
    "heads": (MatchedModel, "label"),
}


@contextlib.contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Add up the seconds of each part."""
    kept = {name: owner.__dict__[method] for name, (owner, method) in PARTS.items()}

    def clocked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def work(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

        return work

    for name, (owner, method) in PARTS.items():
        plain = kept[name]
        made = clocked(name, plain.__func__ if isinstance(plain, classmethod) else plain)
        setattr(owner, method, classmethod(made) if isinstance(plain, classmethod) else made)
    try:
        yield
    finally:
        for name, (owner, method) in PARTS.items():
            setattr(owner, method, kept[name])


def draw(adata: ad.AnnData, n: int, seed: int) -> ad.AnnData:
    """Draw cells, with nothing of scim's on them."""
    rows = np.random.default_rng(seed).choice(adata.n_obs, n, replace=n > adata.n_obs)
    cells = adata[np.sort(rows)].copy()
    cells.obs_names_make_unique()
    return cells


def ours(cells: ad.AnnData) -> dict[str, float]:
    """Seconds of the default call, whole and in parts."""
    parts: dict[str, float] = {}
    start = time.perf_counter()
    with timed(parts):
        scim.tl.annotate(cells)
    whole = time.perf_counter() - start
    # Values are found while cells are compared or matched: they are taken out of no other part.
    return {"all": round(whole, 3)} | {name: round(value, 3) for name, value in parts.items()}


def train_peer() -> Any:
    """A CellTypist model of one of the reference's studies; None where CellTypist is not installed."""
    if find_spec("celltypist") is None:
        return None
    import celltypist
    import scanpy as sc

    train = read(("pbmc3k_10x",))
    sc.pp.normalize_total(train, target_sum=1e4)
    sc.pp.log1p(train)
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        return celltypist.train(train, labels=train.obs[TERM].astype(str), check_expression=False, use_SGD=True)


def peer(model: Any, cells: ad.AnnData) -> float:
    """Seconds of CellTypist's default call, normalisation included."""
    import celltypist
    import scanpy as sc

    start = time.perf_counter()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    with contextlib.redirect_stdout(io.StringIO()):
        celltypist.annotate(cells, model=model)
    return round(time.perf_counter() - start, 3)


def main() -> None:
    """Time both in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="10x_pbmc4k_soupx")
    parser.add_argument("--cells", type=int, nargs="+", default=[700, 3_000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    adata = read((options.study,))
    found: dict[str, Any] = {"benchmark": "annotate", "study": options.study, "genes": adata.n_vars}
    found["first call, 700 cells"] = ours(draw(adata, 700, 99))
    model = train_peer()
    for n in options.cells:
        runs, theirs = [], []
        for seed in range(options.runs):
            runs.append(ours(draw(adata, n, seed)))
            if model is not None:
                theirs.append(peer(model, draw(adata, n, seed)))
        best = min(runs, key=lambda run: run["all"])
        found[f"{n} cells"] = best
        if theirs:
            found[f"{n} cells"] |= {"celltypist": min(theirs), "ratio": round(min(theirs) / best["all"], 2)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
