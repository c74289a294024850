"""References by name: those that come with scim, and those that were installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlparse

from ..._disk import check_target, new_folder
from ..._disk import sha256 as sha256_of
from .. import store
from ..store import BUNDLED, ENDING, LONGEST_NAME, home, looks_like_name
from ._archive import _download, _unpack
from ._downloads import SCRATCH, download_folder, remove_leftovers


def install_reference(
    source: str | Path, *, sha256: str | None = None, name: str | None = None, overwrite: bool = False
) -> Path:
    """Install a reference from an archive or from the Hugging Face Hub, so that it can be opened by its name.

    Nothing is installed whose content is not fixed beforehand, and nothing appears that fails its own checksums.

    Parameters
    ----------
    source
        URL or path of a .zip, .tar, .tar.gz or .tar.xz file that holds one reference; or ``"hf://user/name@revision"``,
        what :func:`scim.push_reference` put on the Hub (``pip install 'scim-tools[hub]'``).
    sha256
        SHA-256 of the archive, 64 hex digits: nothing is unpacked from a file that has another. From the Hub, that of
        manifest.json, which holds those of all other files. It can be left out where ``revision`` is a whole commit
        hash (40 digits): the Hub never changes what that stands for, while branches and tags move.
    name
        What to call it; by default as its folder in the archive, or as the repository. Not as one that comes with scim.
    overwrite
        Replace an installed reference of that name.

    Returns
    -------
    Folder of the reference, in ``SCIM_HOME`` or the user's data folder.

    Raises
    ------
    ValueError
        Nothing fixes the content, or it is another one; or the source is no archive, or holds anything but one whole
        reference; or its name is none, or that of one that comes with scim.
    FileExistsError
        One of that name is installed already.
    BlockingIOError
        Somebody else is downloading the same just now.
    FileNotFoundError, PermissionError, ConnectionError
        The source is not there, not for you, or cannot be reached.
    NotADirectoryError
        ``SCIM_HOME`` is a file.
    ImportError
        The source is on the Hub, and the extra ``hub`` is not installed.

    Examples
    --------
    >>> scim.install_reference("lung.scim.tar.gz", sha256="6f1e...")  # doctest: +SKIP
    >>> scim.Reference.open("lung")  # doctest: +SKIP
    """
    from . import _hub as hub

    on_hub = str(source).startswith(hub.SCHEME)
    if sha256 is None and not on_hub:
        raise ValueError("sha256 is missing: an archive is unpacked only if it has the one given. `sha256sum FILE`.")
    digest = None if sha256 is None else str(sha256).strip().lower()
    if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise ValueError(f"sha256 must be 64 hex digits, got {sha256!r}. `sha256sum FILE` prints them.")
    if name is not None:
        _check_name(name)
    _make_home()
    remove_leftovers(home())
    if on_hub:
        target = _target(name, hub.split(str(source))[0].partition("/")[2], source)
        check_target(target, marker=store.MANIFEST, what="reference", overwrite=overwrite)
        hub.pull(str(source), target, digest=digest, overwrite=overwrite, home=home())
        return target
    assert digest is not None
    return _install_archive(str(source), digest, name, overwrite=overwrite)


def _install_archive(source: str, digest: str, name: str | None, *, overwrite: bool) -> Path:
    if urlparse(source).scheme in ("http", "https", "ftp"):
        with download_folder(home(), digest) as folder:
            return _put(_download(source, digest, folder), source, name, overwrite=overwrite)
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Give the path or the URL of an archive of a reference.")
    if (found := sha256_of(path)) != digest:
        raise ValueError(f"{path} has the SHA-256 {found}, not {digest}. Nothing was unpacked.")
    return _put(path, source, name, overwrite=overwrite)


def _put(archive: Path, source: str, name: str | None, *, overwrite: bool) -> Path:
    """Unpack an archive, check what it holds, and put it in its place."""
    scratch = Path(tempfile.mkdtemp(dir=home(), prefix=SCRATCH))
    try:
        _unpack(archive, scratch)
        found = [path.parent for path in scratch.rglob(store.MANIFEST)]
        if len(found) != 1:
            raise ValueError(f"{source} holds {len(found)} references, where one is expected.")
        try:
            store.verify(found[0])
        except store.ReferenceFolderError as error:  # its folder is gone by the time that somebody looks
            raise store.ReferenceFolderError(str(error).replace(str(scratch), source)) from error
        target = _target(name, "" if found[0] == scratch else found[0].name, source)
        with new_folder(target, marker=store.MANIFEST, what="reference", overwrite=overwrite) as empty:
            shutil.copytree(found[0], empty, dirs_exist_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _target(name: str | None, folder: str, source: str | Path) -> Path:
    """Where a reference goes: by the name given, or by that of its folder or repository, checked as strictly."""
    called = folder.removesuffix(ENDING) if name is None else name
    _check_name(called, None if name is not None else source)
    return home() / f"{called}{ENDING}"


def _check_name(name: str, source: str | Path | None = None) -> None:
    """Refuse what is no name, and those that come with scim; ``source`` is where it comes from, if it was not given."""
    what = "name" if source is None else f"{source}: the name of its folder or repository"
    remedy = "Give another name." if source is None else "Give it another one with name=."
    if not looks_like_name(name):
        shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
        raise ValueError(
            f"{what} must be a plain name of at most {LONGEST_NAME} printable letters, without slashes, a dot at its "
            f"beginning or {ENDING} at its end, got {shown!r}. {remedy}"
        )
    if name.casefold() in {path.name.removesuffix(ENDING).casefold() for path in BUNDLED.glob(f"*{ENDING}")}:
        raise ValueError(f"{what} is {name!r}, that of a reference that comes with scim. {remedy}")


def _make_home() -> None:
    folder = home()
    remedy = "references are installed there. Set SCIM_HOME to a folder that you can write to."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"SCIM_HOME={folder} is a file, or below one, and {remedy}") from error
    except OSError as error:
        raise PermissionError(f"SCIM_HOME={folder} cannot be made ({error.strerror}), and {remedy}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"SCIM_HOME={folder} is read-only, and {remedy}")
