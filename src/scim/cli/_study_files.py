"""Files and patterns of studies; their columns and labels."""

from __future__ import annotations

import glob
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _keys
from .._validate import check_key, did_you_mean
from .._warn import warn
from ._files import read

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import CellOntology


def expand(data: Sequence[str]) -> dict[str, Path]:
    """Find the files of studies, and name each study after its file.

    ``data`` are files, folders of files, and patterns. Files of the same name are named with their folder,
    ``folder/name``.
    """
    paths = list(dict.fromkeys(path.absolute() for text in data for path in _files_of(text)))
    often = Counter(path.stem for path in paths)
    names = [path.stem if often[path.stem] == 1 else f"{path.parent.name}/{path.stem}" for path in paths]
    _check_distinct(names)
    return dict(zip(names, paths, strict=True))


def _files_of(text: str) -> list[Path]:
    from ..reference.build import ZARR, files_in, is_store

    path = Path(text).expanduser()
    if path.is_dir() and path.suffix != ZARR and not is_store(path):
        return list(files_in(path))
    if path.exists():
        return [path]
    if glob.has_magic(text):
        if found := sorted(Path(name) for name in glob.glob(str(path), recursive=True)):
            return found
        raise FileNotFoundError(f"No file fits the pattern {text}. Try it with ls.")
    there = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
    raise FileNotFoundError(f"There is no file {path}. {did_you_mean(path.name, there)}")


def _check_distinct(names: Sequence[str]) -> None:
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"Two files are named {twice[0]}, and studies are named after their files. Rename one.")


def check_columns(
    columns: Iterable[str],
    where: Path | str,
    labels_key: str,
    study_key: str | None,
    obs_columns: Sequence[str] | None = None,
) -> None:
    """Raise a :class:`KeyError` if an option names a column that is not among the ``columns`` of obs in ``where``."""
    there = dict.fromkeys(columns)
    named = [("--labels-key", labels_key), ("--study-key", study_key)]
    named += [("--obs-column", column) for column in obs_columns or ()]
    for option, name in named:
        if name is not None:
            check_key(there, name, argument=option, where=f"obs of {where}")


def check_all(
    paths: Mapping[str, Path], labels_key: str, study_key: str | None, obs_columns: Sequence[str] | None
) -> None:
    """Check the columns of all files before the first is embedded, which can take hours."""
    from ..reference.build import columns_of

    for path in paths.values():
        check_columns(columns_of(path), path, labels_key, study_key, obs_columns)


def read_studies(paths: Sequence[Path]) -> dict[str, AnnData]:
    """Read .h5ad files into memory, each as a study that is named after its file."""
    names = [path.stem for path in paths]
    _check_distinct(names)
    return {name: read(path) for name, path in zip(names, paths, strict=True)}


def harmonized(paths: Mapping[str, Path], labels_key: str) -> CellOntology:
    """Map the labels of all files to terms, and return the Cell Ontology with these labels as synonyms."""
    import pandas as pd
    from anndata import AnnData

    from .. import CellOntology, pp
    from ..reference.build import list_parts

    seen: dict[str, None] = {}
    for part in list_parts(paths, frozenset()):
        with part.open() as adata:
            seen |= dict.fromkeys(adata.obs[labels_key].dropna().astype(str).unique())
    rows = list(seen)
    labels = AnnData(obs=pd.DataFrame({labels_key: rows}, index=[str(i) for i in range(len(rows))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it would count each label as a cell
        pp.harmonize_labels(labels, labels_key)
    report = labels.uns[_keys.PREPROCESSING]["harmonize"]
    if len(unmapped := report.loc[report["method"] == "unmapped", "label"]):
        shown = ", ".join(map(repr, unmapped))
        warn(f"{len(unmapped)} of {len(report)} labels have no Cell Ontology term and stay as they are: {shown}.")
    found = report[report["term_id"] != ""]
    return CellOntology.bundled().with_synonyms(dict(zip(found["label"], found["term_id"], strict=True)))
