"""References by name: those that come with scim, and those that were installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..._validate import did_you_mean
from . import _manifest as files

if TYPE_CHECKING:
    import pandas as pd


def unknown_reference(path: Path, there: list[str]) -> FileNotFoundError:
    """Error for a reference that is not there, naming those that are, but no hidden ones: builds under way."""
    seen = [name for name in there if not name.startswith(".")]
    others = f"In that folder: {did_you_mean(path.name, seen)}" if seen else "That folder holds none."
    return FileNotFoundError(f"There is no reference {str(path)!r}. {others}")


#: What ``reference=None`` means.
DEFAULT = "blood"


#: Ending of a reference's folder.
ENDING = ".scim"


#: Letters, and bytes, of the longest name: file systems take 255 bytes, and folders on their way have longer names.
LONGEST_NAME = 100


LONGEST_NAME_BYTES = 200


BUNDLED = Path(__file__).parents[1] / "bundled"


_COLUMNS = ("name", "where", "cells", "labels", "studies", "genes", "megabytes", "path")


def home() -> Path:
    """Folder that references are installed to: ``SCIM_HOME``, or where the system keeps data of users."""
    if given := os.environ.get("SCIM_HOME"):
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("scim", appauthor=False)


def references() -> pd.DataFrame:
    """List the references that can be named: bundled with scim, and installed.

    Returns
    -------
    DataFrame with a row for each: its name, where it comes from (``"bundled"`` or ``"installed"``), cells, labels,
    studies, genes, megabytes on disk, and path.

    Examples
    --------
    >>> import scim
    >>> scim.references().query("where == 'bundled'")["name"].tolist()
    ['blood']
    """
    import pandas as pd

    rows = []
    for where, folder in _folders():
        for path in sorted(folder.glob(f"*{ENDING}")):
            try:
                manifest = files.read_manifest(path)
            except files.ReferenceFolderError:
                continue
            sizes = sum(int(f["bytes"]) for f in manifest["files"].values())
            labels, studies = len(manifest["terms"]["labels"]), len(manifest["studies"])
            row = (path.name.removesuffix(ENDING), where, manifest["n_cells"], labels, studies, manifest["n_genes"])
            rows.append((*row, round(sizes / 1e6, 1), str(path)))
    return pd.DataFrame(rows, columns=list(_COLUMNS)).drop_duplicates("name", ignore_index=True)


def path_of_named(name: str) -> Path:
    """Folder of a named reference; a bundled one goes before an installed one, so that nothing takes its place.

    Raises
    ------
    FileNotFoundError
        There is no such reference; the message lists those that there are.
    """
    if there := named_path_or_none(name):
        return there
    known = references()["name"].tolist()
    raise FileNotFoundError(
        f"There is no reference named {name!r}, and no folder of that path. {did_you_mean(name, known)} "
        "scim.references() lists what is there; `scim install-reference` adds to it."
    )


def path_of(path: Path) -> Path:
    """Folder of a reference by a word that may be a folder here, or the name of one that is bundled or installed.

    Raises
    ------
    ValueError
        It is both.
    FileNotFoundError
        It is neither.
    """
    there = named_path_or_none(path.name)
    if (path / files.MANIFEST).is_file():
        if there is not None and not there.samefile(path):
            raise ValueError(
                f"{path.name!r} is a reference in this folder, and the name of another one, at {there}. Write "
                f"'./{path.name}' for the one in this folder, or rename it."
            )
        return path
    return there or (path if path.exists() else path_of_named(path.name))


def named_path_or_none(name: str) -> Path | None:
    """Folder of a named reference, None where there is none."""
    paths = (folder / f"{name}{ENDING}" for _, folder in _folders())
    return next((path for path in paths if (path / files.MANIFEST).is_file()), None)


def is_bundled(path: Path) -> bool:
    """Whether a folder is one that comes with scim, which all share who use this installation."""
    return path.resolve().parent == BUNDLED.resolve()


def looks_like_name(text: str) -> bool:
    r"""Whether a text is a name rather than a path: "blood.scim" is a folder of the user's, there or not.

    Examples
    --------
    >>> [is_name(text) for text in ("blood", "blood.scim", "../blood", ".", "blood\n")]
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
