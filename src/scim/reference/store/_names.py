"""References by name: bundled and installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..._validate import did_you_mean
from ._manifest import MANIFEST, ReferenceFolderError, read_manifest

if TYPE_CHECKING:
    import pandas as pd

#: Name of the reference that ``reference=None`` means.
DEFAULT = "human"
#: Ending of a reference's folder.
ENDING = ".scim"
#: Characters of the longest name. File systems take 255 bytes, and temporary folders have longer names.
LONGEST_NAME = 100
#: Bytes of the longest name.
LONGEST_NAME_BYTES = 200
BUNDLED = Path(__file__).parents[1] / "bundled"
_COLUMNS = ("name", "where", "cells", "labels", "studies", "genes", "megabytes", "path")


def home() -> Path:
    """Return the folder of installed references: ``SCIM_HOME``, or the user's data folder of the system."""
    if given := os.environ.get("SCIM_HOME"):
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("scim", appauthor=False)


def references() -> pd.DataFrame:
    """List the references that have a name: bundled with scim, and installed.

    Returns
    -------
    DataFrame with a row for each reference: its name, ``where`` (``"bundled"`` or ``"installed"``), cells, labels,
    studies, genes, megabytes on disk, and path.

    Examples
    --------
    >>> import scim
    >>> scim.references().query("where == 'bundled'")["name"].tolist()
    ['blood', 'human']
    """
    import pandas as pd

    rows = []
    for where, folder in _folders():
        for path in sorted(folder.glob(f"*{ENDING}")):
            try:
                manifest = read_manifest(path)
            except ReferenceFolderError:
                continue
            sizes = sum(int(f["bytes"]) for f in manifest["files"].values())
            labels, studies = len(manifest["terms"]["labels"]), len(manifest["studies"])
            row = (path.name.removesuffix(ENDING), where, manifest["n_cells"], labels, studies, manifest["n_genes"])
            rows.append((*row, round(sizes / 1e6, 1), str(path)))
    return pd.DataFrame(rows, columns=list(_COLUMNS)).drop_duplicates("name", ignore_index=True)


def path_of_reference(reference: str | Path | None) -> Path:
    """Return the folder of a reference, by its path or name. None: the bundled reference of the human body, ``human``.

    Raises
    ------
    TypeError, FileNotFoundError, ReferenceFolderError
        ``reference`` is not a path; the folder does not exist; it is a file.
    ValueError
        A folder here and a bundled or installed reference have the same name.
    """
    if reference is None:
        reference = path_of_named(DEFAULT)
    if not isinstance(reference, str | Path):
        raise TypeError(f"reference must be a Reference or a path, got {type(reference).__name__}.")
    path = Path(reference).expanduser()
    if isinstance(reference, str) and looks_like_name(reference):
        path = path_of(path)
    if not path.exists():
        raise _unknown_reference(path)
    if not path.is_dir():
        raise ReferenceFolderError(f"{path} is a file. A reference is a folder with a {MANIFEST}.")
    return path


def _unknown_reference(path: Path) -> FileNotFoundError:
    """Return the error for a folder that does not exist. It names the references next to it."""
    parent = path.resolve().parent
    # Hidden folders are unfinished builds.
    there = sorted(p.parent.name for p in parent.glob(f"*/{MANIFEST}")) if parent.is_dir() else []
    seen = [name for name in there if not name.startswith(".")]
    others = f"In that folder: {did_you_mean(path.name, seen)}" if seen else "That folder holds no reference."
    return FileNotFoundError(f"There is no reference {str(path)!r}. {others}")


def path_of_named(name: str) -> Path:
    """Return the folder of a named reference, or raise a FileNotFoundError that lists the names."""
    if there := named_path_or_none(name):
        return there
    known = references()["name"].tolist()
    raise FileNotFoundError(
        f"There is no reference named {name!r}, and no folder of that path. {did_you_mean(name, known)} "
        "scim.references() lists all references. `scim install-reference` installs another one."
    )


def path_of(path: Path) -> Path:
    """Return the folder of a reference, which is a folder here or has a name.

    Raises
    ------
    ValueError, FileNotFoundError
        It is both, or neither.
    """
    there = named_path_or_none(path.name)
    if (path / MANIFEST).is_file():
        if there is not None and not there.samefile(path):
            raise ValueError(
                f"{path.name!r} is a reference in this folder, and the name of another one, at {there}. Write "
                f"'./{path.name}' for the one in this folder, or rename it."
            )
        return path
    return there or (path if path.exists() else path_of_named(path.name))


def named_path_or_none(name: str) -> Path | None:
    """Return the folder of a named reference, or None. A bundled reference goes before an installed one."""
    paths = (folder / f"{name}{ENDING}" for _, folder in _folders())
    return next((path for path in paths if (path / MANIFEST).is_file()), None)


def is_bundled(path: Path) -> bool:
    """Whether a folder is a reference that comes with scim, which all users of this installation share."""
    return path.resolve().parent == BUNDLED.resolve()


def looks_like_name(text: str) -> bool:
    r"""Whether a text is a name and not a path: "blood.scim" is a path.

    Examples
    --------
    >>> [looks_like_name(text) for text in ("blood", "blood.scim", "../blood", ".", "blood\n")]
    [True, False, False, False, False]
    """
    return (
        0 < len(text) <= LONGEST_NAME
        and text.isprintable()
        and text == text.strip()
        and len(text.encode()) <= LONGEST_NAME_BYTES
        and not text.endswith(ENDING)
        and not any(mark in text for mark in "/\\")
        and not text.startswith((".", "~"))
    )


def _folders() -> list[tuple[str, Path]]:
    return [("bundled", BUNDLED), ("installed", home())]
