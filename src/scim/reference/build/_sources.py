"""Data of a reference: in memory, or in files that are opened one after the other."""

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
#: Cells on disk whose values are part of a stamp.
_STAMP_CELLS = 64


@dataclass(frozen=True)
class Part:
    """One AnnData or file of the data, which ``open`` opens as a context manager.

    ``name`` is the name of its study, if ``obs`` has no study. ``n_cells`` is None if it is not known. ``stamp`` is a
    text that changes with a file, known without opening it. ``stamp`` and ``path`` are None for data in memory.
    """

    name: str
    open: Callable[[], AbstractContextManager[Any]]
    n_cells: int | None = None
    stamp: str | None = None
    path: Path | None = None


def is_named(data: Any) -> bool:
    """Whether the data have names for their studies, as files and mappings do."""
    if isinstance(data, Mapping | str | Path):
        return True
    return isinstance(data, list | tuple) and bool(data) and all(isinstance(part, str | Path) for part in data)


def is_listed(data: Any) -> bool:
    """Whether the data can be iterated more than once."""
    return isinstance(data, Mapping | str | Path | list | tuple) or hasattr(data, "obs")


def list_parts(data: Any, taken: frozenset[str]) -> Iterator[Part]:
    """Yield the parts of the data.

    These are an AnnData or MuData, the path of a file, or of a folder of files; a list of these; or a mapping of names
    to these. Data without a name get other names than the known studies, ``taken``. A path that does not exist, or
    cannot be read, is a FileNotFoundError or a ValueError.
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
            if isinstance(part, str | Path):  # an iterator yields them one by one
                _check_names([path for path in files if path.stem == Path(part).stem] + [Path(part)])
                files.append(Path(part))
            yield _part(Path(part).stem if isinstance(part, str | Path) else next(names), part)


def count_cells(data: Any) -> int | None:
    """Count the cells, if they can be counted beforehand."""
    if not is_listed(data):
        return None
    numbers = [part.n_cells for part in list_parts(data, frozenset())]
    return None if None in numbers else sum(n for n in numbers if n is not None)


def _free_names(start: int, taken: frozenset[str]) -> Iterator[str]:
    """Yield ``study_1``, ``study_2`` and so on, without names that are taken."""
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
    """Return the AnnData files of a folder, sorted by name. A folder without files is a ValueError."""
    found = sorted(p for p in folder.iterdir() if p.suffix in (H5AD, ZARR) and not p.name.startswith("."))
    if not found:
        raise ValueError(
            f"The folder {folder} holds no {H5AD} or {ZARR} files. Give a folder with such files, or the files: in the "
            f"shell, '{folder}/*/*{H5AD}' in quotes stands for the files of its subfolders."
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
        raise ValueError(f"{path} is neither an {H5AD} nor a {ZARR} file. Write it with adata.write_h5ad.")
    with _group(path) as group:
        n_cells = _count_rows(group["obs"])
    about = path.stat()
    stamp = _folder_stamp(path) if path.is_dir() else f"{path.name}:{about.st_size}:{about.st_mtime_ns}"
    return Part(name, lambda: opened(path), n_cells, stamp, path)


def _folder_stamp(path: Path) -> str:
    """Hash names, sizes and times of the files of a zarr store."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        about = file.stat()
        digest.update(f"{file.relative_to(path).as_posix()}:{about.st_size}:{about.st_mtime_ns}\n".encode())
    return f"{path.name}:{digest.hexdigest()}"


def _count_rows(obs: Any) -> int | None:
    """Count the rows of a table in a file. None for the tables of older files, which do not name their index."""
    name = obs.attrs.get("_index")
    if name is None:
        return None
    index = obs[name]
    # Newer files store text that may be missing as a group of values and a mask.
    return int((index["values"] if hasattr(index, "keys") else index).shape[0])


def columns_of(path: Path) -> list[str]:
    """Return the columns of ``obs`` of a file. A file that is not an AnnData is a ValueError."""
    with _group(path) as group:
        obs = group["obs"]
        if hasattr(obs, "dtype"):  # a table of an older file
            return list(obs.dtype.names or ())
        return [str(name) for name in obs.attrs.get("column-order", list(obs))]


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json"))


@contextmanager
def _group(path: Path) -> Iterator[Any]:
    """Open a file for reading, and yield its root group."""
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
            raise ValueError(f"{path} is not an AnnData: it has no {missing[0]}. Write it with adata.write_h5ad.")
        yield group


@contextmanager
def opened(path: Path) -> Iterator[AnnData]:
    """Open a file as an AnnData with matrices and layers on disk, without the parts that embedding does not need."""
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
    """Hash names of cells and genes, metadata, and values. Of values on disk, those of 64 cells are hashed."""
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
    elif not hasattr(X, "dask"):  # rows of a Dask array can cost as much as the whole array
        for _, block in iter_blocks(X, rows=np.unique(np.linspace(0, len(obs) - 1, _STAMP_CELLS).astype(int))):
            values = np.asarray(block.todense() if hasattr(block, "todense") else block)
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
