"""Files in and out of the commands: by extension, checked before any work, and whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._validate import check_key, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..reference import Reference

H5AD = ".h5ad"
PARQUET = ".parquet"
CSV = ".csv"
TABLES = (PARQUET, CSV, ".csv.gz")
#: What reads files of other kinds; a folder without an ending is 10x's.
_READERS = {
    ".zarr": "anndata.read_zarr",
    ".h5": "scanpy.read_10x_h5",
    ".mtx": "scanpy.read_10x_mtx",
    ".loom": "anndata.io.read_loom",
    ".csv": "anndata.io.read_csv",
}


def output_kind(path: Path, *, overwrite: bool, option: str = "--out", kinds: Sequence[str] = (H5AD, *TABLES)) -> str:
    """Return the extension of an output path that can be written: one of ``kinds``.

    Raises
    ------
    ValueError
        The extension is none of these.
    FileExistsError, FileNotFoundError, PermissionError
        The file is there already, or its folder is not or cannot be written to.
    """
    kind = next((end for end in sorted(kinds, key=len, reverse=True) if path.name.lower().endswith(end)), None)
    if kind is None:
        raise ValueError(f"{option} {path} must end in one of {', '.join(kinds)}. {did_you_mean(path.suffix, kinds)}")
    check_target(path, overwrite=overwrite, option=option)
    return kind


def check_target(path: Path, *, overwrite: bool, option: str = "--out") -> None:
    """Raise if ``path`` cannot be written, before any work is done for it."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"{option} {path} exists already. Choose another name, or add --overwrite.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {folder}. Make it first (mkdir -p).")
    try:  # os.access says yes to an administrator, even where nothing can be written
        with tempfile.TemporaryDirectory(dir=folder, prefix=".scim-"):
            pass
    except OSError as error:
        raise PermissionError(
            f"{option} {path}: the folder {folder} cannot be written to ({error.strerror}). Choose another place."
        ) from error


def read(path: Path) -> AnnData:
    """Read an .h5ad file into memory.

    Raises
    ------
    FileNotFoundError
        There is no such file; close names in the same folder are given.
    ValueError
        The file is no .h5ad, or cannot be read as one.
    """
    if not path.exists():
        folder = path.resolve().parent
        there = sorted(p.name for p in folder.glob("*.h5ad")) if folder.is_dir() else []
        raise FileNotFoundError(f"There is no file {path}. {did_you_mean(path.name, there)}")
    if path.suffix.lower() != H5AD:
        kind = path.suffix.lower()
        reader = _READERS.get(kind, "scanpy.read_10x_mtx" if path.is_dir() else "scanpy.read")
        source = path.parent if kind == ".mtx" else path
        made = f"{path.resolve().stem}{H5AD}"
        raise ValueError(
            f'{path} is not an .h5ad file. Write one in Python: {reader}("{source}").write_h5ad("{made}").'
        )
    import anndata

    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds for a broken file
        raise ValueError(f"{path} cannot be read as .h5ad ({type(error).__name__}: {error}).") from error


def check_columns(
    columns: Iterable[str],
    where: Path | str,
    labels_key: str,
    study_key: str | None,
    obs_columns: Sequence[str] | None = None,
) -> None:
    """Raise a :class:`KeyError` if obs of ``where``, which has ``columns``, lacks one that an option names."""
    there = dict.fromkeys(columns)
    named = [("--labels-key", labels_key), ("--study-key", study_key)]
    named += [("--obs-column", column) for column in obs_columns or ()]
    for option, name in named:
        if name is not None:
            check_key(there, name, argument=option, where=f"obs of {where}")


def read_studies(paths: Sequence[Path]) -> dict[str, AnnData]:
    """Read several .h5ad files, each a study that is named after its file."""
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Two files are named {twice[0]}.h5ad, and studies are named after their files. Rename one.")
    return {name: read(path) for name, path in zip(names, paths, strict=True)}


def write(path: Path, writer: Callable[[Path], None]) -> None:
    """Call ``writer`` on a temporary sibling of ``path`` and move it into place when it is whole."""
    path = path.resolve()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".scim-") as folder:
        partial = Path(folder) / path.name
        writer(partial)
        os.replace(partial, path)


def write_table(table: pd.DataFrame, path: Path, kind: str) -> None:
    """Write a table as Parquet or CSV, its index as the first column."""

    def writer(partial: Path) -> None:
        if kind == PARQUET:
            table.to_parquet(partial)
        else:
            table.to_csv(partial, index=True)

    write(path, writer)


def write_adata(adata: AnnData, path: Path) -> None:
    """Write an .h5ad file."""
    write(path, lambda partial: adata.write_h5ad(partial, compression="gzip"))


def filters(pairs: Sequence[str] | None, *, option: str) -> dict[str, list[str]] | None:
    """Turn ``["tissue=lung", "tissue=blood"]`` into ``{"tissue": ["lung", "blood"]}``; None for none.

    Examples
    --------
    >>> filters(["tissue=lung", "tissue=blood"], option="--where")
    {'tissue': ['lung', 'blood']}
    """
    chosen: dict[str, list[str]] = {}
    for pair in pairs or ():
        column, equals, value = pair.partition("=")
        if not (equals and column.strip() and value.strip()):
            raise ValueError(f"{option} {pair!r} must look like COLUMN=VALUE, for example {option} tissue=lung.")
        chosen.setdefault(column.strip(), []).append(value.strip())
    return chosen or None


def caps(pairs: Sequence[str] | None, *, option: str) -> dict[str, int] | None:
    """Turn ``["donor=50"]`` into ``{"donor": 50}``; None for none.

    Examples
    --------
    >>> caps(["donor=50"], option="--max-per-group")
    {'donor': 50}
    """
    chosen: dict[str, int] = {}
    for pair in pairs or ():
        column, _, number = pair.rpartition("=")
        if not (column.strip() and number.strip().isdecimal()):
            raise ValueError(f"{option} {pair!r} must look like COLUMN=NUMBER, for example {option} donor=50.")
        if column.strip() in chosen:
            raise ValueError(f"{option} names {column.strip()!r} twice. Give each column one number.")
        chosen[column.strip()] = int(number)
    return chosen or None


def as_stored(chosen: dict[str, list[str]] | None, reference: Reference) -> dict[str, list[Any]] | None:
    """Bring the values of filters to numbers, True and False in columns that hold such; what is none stays text."""

    def stored(text: str, values: Iterable[Any]) -> Any:
        with suppress(ValueError):
            number = float(text)
            if number == number:  # the text nan is no number
                plain = int(number) if number.is_integer() else number
                return next((value for value in values if value == number), plain)
        return {"true": True, "false": False}.get(text.lower(), text)

    kinds = reference.obs.head(1).dtypes
    return chosen and {
        column: [stored(text, reference.codes(column)[1]) for text in texts]
        if column in kinds and getattr(kinds[column], "kind", "O") in "iufb"
        else texts
        for column, texts in chosen.items()
    }
