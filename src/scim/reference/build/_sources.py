"""Data that a reference is built from: in memory, or in files that are opened one after the other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._validate import did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

H5AD = ".h5ad"
ZARR = ".zarr"


@dataclass(frozen=True)
class Part:
    """One of the data that a reference is made of.

    Attributes
    ----------
    name
        Name of its study, where ``obs`` has none.
    open
        Opens it, for the time of a ``with`` block.
    n_cells
        Cells in it, if that is known.
    stamp
        What tells this version of a file from others, without opening it; None for data in memory.
    path
        The file, if it is one.
    """

    name: str
    open: Callable[[], AbstractContextManager[Any]]
    n_cells: int | None = None
    stamp: str | None = None
    path: Path | None = None


def is_named(data: Any) -> bool:
    """Whether the data bring names for their studies: files do, and mappings."""
    if isinstance(data, Mapping | str | Path):
        return True
    return isinstance(data, list | tuple) and bool(data) and all(isinstance(part, str | Path) for part in data)


def is_listed(data: Any) -> bool:
    """Whether the data can be gone through more than once."""
    return isinstance(data, Mapping | str | Path | list | tuple) or hasattr(data, "obs")


def list_parts(data: Any, taken: frozenset[str]) -> Iterator[Part]:
    """Parts of the data; each is opened when its turn comes.

    Parameters
    ----------
    data
        An AnnData or MuData, the path of a file, or of a folder of them; several of these; or a mapping of names to
        them.
    taken
        Names of studies that are there already, and that data without a name do not belong to.

    Raises
    ------
    FileNotFoundError, ValueError
        A path does not exist, or is nothing that can be read.
    """
    if isinstance(data, str | Path):
        yield from _paths(Path(data).expanduser())
    elif isinstance(data, Mapping):
        for name, part in data.items():
            yield _part(str(name), part)
    elif hasattr(data, "obs") or not isinstance(data, Iterable):
        yield _part("study" if "study" not in taken else next(_free_names(2, taken)), data)
    else:
        if isinstance(data, list | tuple):
            _check_names([Path(p) for p in data if isinstance(p, str | Path)])
        names = _free_names(1, taken)
        files: list[Path] = []
        for part in data:
            if isinstance(part, str | Path):  # of an iterator, they come one by one
                _check_names([path for path in files if path.stem == Path(part).stem] + [Path(part)])
                files.append(Path(part))
            yield _part(Path(part).stem if isinstance(part, str | Path) else next(names), part)


def count_cells(data: Any) -> int | None:
    """Cells in all, where that can be known beforehand."""
    if not is_listed(data):
        return None
    numbers = [part.n_cells for part in list_parts(data, frozenset())]
    return None if None in numbers else sum(n for n in numbers if n is not None)


def _free_names(start: int, taken: frozenset[str]) -> Iterator[str]:
    """Yield ``study_1``, ``study_2`` and so on, but for those that are taken."""
    return (name for name in (f"study_{i}" for i in count(start)) if name not in taken)


def _paths(path: Path) -> Iterator[Part]:
    if not path.is_dir() or path.suffix == ZARR or is_store(path):
        yield _part(path.stem, path)
        return
    found = files_in(path)
    _check_names(found)
    for file in found:
        yield _part(file.stem, file)


def files_in(folder: Path) -> list[Path]:
    """Files of a folder, in the order of their names.

    Raises
    ------
    ValueError
        There are none.
    """
    found = sorted(p for p in folder.iterdir() if p.suffix in (H5AD, ZARR) and not p.name.startswith("."))
    if not found:
        raise ValueError(
            f"The folder {folder} holds no {H5AD} or {ZARR} files. Give the folder that does, or the files: in the "
            f"shell, '{folder}/*/*{H5AD}' in quotes names those of the folders in it."
        )
    return found


def _check_names(paths: list[Path]) -> None:
    twice = [name for name, n in Counter(path.stem for path in paths).items() if n > 1]
    if twice:
        raise ValueError(
            f"Two files are named {twice[0]}, and studies are named after their files. Give a mapping of names to "
            "paths."
        )


def _part(name: str, data: Any) -> Part:
    if not isinstance(data, str | Path):
        n_cells = int(data.n_obs) if hasattr(data, "n_obs") else None
        return Part(name, lambda: nullcontext(data), n_cells)
    path = Path(data).expanduser()
    if not path.exists():
        there = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
        raise FileNotFoundError(f"There is no file {path}. {did_you_mean(path.name, there)}")
    if path.suffix not in (H5AD, ZARR) and not is_store(path):
        raise ValueError(f"{path} is neither an {H5AD} nor a {ZARR} file. Write one with adata.write_h5ad.")
    with _group(path) as group:
        n_cells = _count_rows(group["obs"])
    about = path.stat()
    stamp = _folder_stamp(path) if path.is_dir() else f"{path.name}:{about.st_size}:{about.st_mtime_ns}"
    return Part(name, lambda: opened(path), n_cells, stamp, path)


def _folder_stamp(path: Path) -> str:
    """Hash of what the files of a zarr store are called, how long they are, and when they were written."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        about = file.stat()
        digest.update(f"{file.relative_to(path).as_posix()}:{about.st_size}:{about.st_mtime_ns}\n".encode())
    return f"{path.name}:{digest.hexdigest()}"


def _count_rows(obs: Any) -> int | None:
    """Rows of a table in a file; None for the tables of old, which do not say what their index is."""
    name = obs.attrs.get("_index")
    if name is None:
        return None
    index = obs[name]
    # Text that may be missing, as newer files have it, is a group of values and of what is missing.
    return int((index["values"] if hasattr(index, "keys") else index).shape[0])


def columns_of(path: Path) -> list[str]:
    """Columns of ``obs`` of a file.

    Raises
    ------
    ValueError
        It cannot be read as an AnnData.
    """
    with _group(path) as group:
        obs = group["obs"]
        if hasattr(obs, "dtype"):  # a table of old
            return list(obs.dtype.names or ())
        return [str(name) for name in obs.attrs.get("column-order", list(obs))]


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json"))


@contextmanager
def _group(path: Path) -> Iterator[Any]:
    """Root of a file, for reading."""
    import h5py

    try:
        if path.is_dir():
            import zarr

            group: Any = zarr.open_group(str(path), mode="r")
        else:
            group = h5py.File(path, "r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an AnnData ({error}). Write it again with adata.write.") from error
    with group if isinstance(group, h5py.File) else nullcontext():
        if missing := [name for name in ("obs", "var") if name not in group]:
            raise ValueError(f"{path} is no AnnData: it has no {missing[0]}. Write one with adata.write_h5ad.")
        yield group


@contextmanager
def opened(path: Path) -> Iterator[AnnData]:
    """Open a file as an AnnData whose matrices stay on disk, layers too, and without what no embedding needs."""
    from anndata import AnnData
    from anndata.io import read_elem, sparse_dataset

    with _group(path) as group:

        def matrix(element: Any) -> Any:
            return sparse_dataset(element) if hasattr(element, "keys") else element

        obs, var = read_elem(group["obs"]), read_elem(group["var"])
        layers = {name: matrix(group["layers"][name]) for name in group["layers"]} if "layers" in group else {}
        adata = AnnData(matrix(group["X"]) if "X" in group else None, obs=obs, var=var, layers=layers)
        if "raw" in group and "X" in group["raw"]:
            adata.raw = AnnData(matrix(group["raw"]["X"]), obs=obs[[]], var=read_elem(group["raw"]["var"]))
        yield adata


def content_stamp(adata: AnnData, obs: Any, X: Any) -> str:
    """Hash of what cells and genes are called, of their metadata, and of their values; from disk, of some cells'."""
    import pandas as pd
    from scipy import sparse

    from ...counts import iter_blocks

    digest = hashlib.sha256(repr((adata.shape, X.shape)).encode())
    plain = obs.apply(lambda column: column.astype(str)) if len(obs.columns) else obs
    digest.update(pd.util.hash_pandas_object(plain, index=True).to_numpy().tobytes())
    digest.update("\n".join(map(str, adata.var_names)).encode())
    if isinstance(X, np.ndarray):
        digest.update(np.ascontiguousarray(X).tobytes())
    elif sparse.issparse(X):
        for values in (X.data, X.indices, X.indptr) if hasattr(X, "indptr") else (X.tocsr().data,):
            digest.update(np.ascontiguousarray(values).data)
    elif not hasattr(X, "dask"):  # some rows of which can cost as much as all
        for _, block in iter_blocks(X, rows=np.unique(np.linspace(0, len(obs) - 1, 64).astype(int))):
            values = np.asarray(block.todense() if hasattr(block, "todense") else block)
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
