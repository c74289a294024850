"""Files that the commands read and write, and the filters that they are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._validate import did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..reference import Reference

H5AD = ".h5ad"
PARQUET = ".parquet"
CSV = ".csv"
TABLES = (PARQUET, CSV, ".csv.gz")
#: Function that reads files of another kind. A folder without an ending is one of 10x.
_READERS = {
    ".zarr": "anndata.read_zarr",
    ".h5": "scanpy.read_10x_h5",
    ".mtx": "scanpy.read_10x_mtx",
    ".loom": "anndata.io.read_loom",
    ".csv": "anndata.io.read_csv",
}


def output_kind(path: Path, *, overwrite: bool, option: str = "--out", kinds: Sequence[str] = (H5AD, *TABLES)) -> str:
    """Return the extension of an output path, one of ``kinds``, or raise if the file cannot be written."""
    kind = next((end for end in sorted(kinds, key=len, reverse=True) if path.name.lower().endswith(end)), None)
    if kind is None:
        raise ValueError(f"{option} {path} must end in one of {', '.join(kinds)}. {did_you_mean(path.suffix, kinds)}")
    check_out(path, overwrite=overwrite)
    return kind


def check_out(path: Path, *, overwrite: bool, marker: str | None = None, what: str = "file") -> None:
    """Raise if an output cannot be written, before any work; see :func:`scim._disk.check_target`."""
    from .._disk import check_target

    check_target(path, overwrite=overwrite, marker=marker, what=what)
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {folder}. Make it first (mkdir -p).")


def read(path: Path) -> AnnData:
    """Read an .h5ad file into memory. The error for another file says how to convert it."""
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
    except Exception as error:  # h5py and anndata raise many kinds of errors
        raise ValueError(f"{path} cannot be read as .h5ad ({type(error).__name__}: {error}).") from error


def write_table(table: pd.DataFrame, path: Path, kind: str) -> None:
    """Write a table as Parquet or CSV, its index as the first column."""
    from .._disk import replace_file

    replace_file(path, table.to_parquet if kind == PARQUET else table.to_csv)


def write_adata(adata: AnnData, path: Path) -> None:
    """Write an .h5ad file."""
    from .._disk import replace_file

    replace_file(path, lambda partial: adata.write_h5ad(partial, compression="gzip"))


def filters(pairs: Sequence[str] | None, *, option: str) -> dict[str, list[str]] | None:
    """Turn ``["tissue=lung", "tissue=blood"]`` into ``{"tissue": ["lung", "blood"]}``; no pairs are None.

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
    """Turn ``["donor=50"]`` into ``{"donor": 50}``; no pairs are None.

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
    """Convert the values of filters to numbers or booleans, if the column holds these and the text is one."""

    def stored(text: str, values: Iterable[Any]) -> Any:
        with suppress(ValueError):
            number = float(text)
            if number == number:  # not NaN
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
