"""Install references from archives and from the Hugging Face Hub."""

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
from ._archive import download_archive, unpack
from ._downloads import SCRATCH, download_folder, remove_leftovers


def install_reference(
    source: str | Path, *, sha256: str | None = None, name: str | None = None, overwrite: bool = False
) -> Path:
    """Install a reference from an archive or from the Hugging Face Hub, so that it can be opened by its name.

    The content must be fixed by a checksum or a commit, and every file is checked before the reference appears.

    Parameters
    ----------
    source
        URL or path of a .zip, .tar, .tar.gz or .tar.xz file with one reference; or ``"hf://user/name@revision"``, a
        reference that :func:`scim.push_reference` pushed (``pip install 'scim-tools[hub]'``).
    sha256
        SHA-256 of the archive, 64 hex digits, compared before it is unpacked; or, from the Hub, SHA-256 of
        manifest.json, which has those of all other files. It can be left out if ``revision`` is a whole commit hash
        (40 digits), because a commit never changes, unlike a branch or tag.
    name
        Name of the reference. The default is the name of its folder in the archive, or of the repository. Names of
        bundled references are not allowed.
    overwrite
        Replace an installed reference of this name.

    Returns
    -------
    Folder of the reference, in ``SCIM_HOME`` or the user's data folder.

    Raises
    ------
    ValueError
        Nothing fixes the content, or the content differs; the source is not an archive of one whole reference; the name
        is not allowed.
    FileExistsError, BlockingIOError
        A reference of this name is installed; another process is downloading the same reference.
    FileNotFoundError, PermissionError, ConnectionError, ImportError
        The source does not exist, may not be read, or cannot be reached; the extra ``hub`` is not installed.
    NotADirectoryError
        ``SCIM_HOME`` is a file.

    Examples
    --------
    >>> scim.install_reference("lung.scim.tar.gz", sha256="6f1e...")  # doctest: +SKIP
    >>> scim.Reference.open("lung")  # doctest: +SKIP
    """
    from . import _hub as hub

    on_hub = str(source).startswith(hub.SCHEME)
    if sha256 is None and not on_hub:
        raise ValueError(
            "sha256 is missing: an archive is unpacked only if its SHA-256 is given. `sha256sum FILE` prints it."
        )
    digest = None if sha256 is None else str(sha256).strip().lower()
    if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise ValueError(f"sha256 must be 64 hex digits, got {sha256!r}. `sha256sum FILE` prints it.")
    if name is not None:
        _check_name(name)
    _make_home()
    remove_leftovers(home())
    if on_hub:
        target = _target(name, hub.split_source(str(source))[0].partition("/")[2], source)
        check_target(target, marker=store.MANIFEST, what="reference", overwrite=overwrite)
        hub.pull(str(source), target, digest=digest, overwrite=overwrite, home=home())
        return target
    assert digest is not None
    return _install_archive(str(source), digest, name, overwrite=overwrite)


def _install_archive(source: str, digest: str, name: str | None, *, overwrite: bool) -> Path:
    if urlparse(source).scheme in ("http", "https", "ftp"):
        with download_folder(home(), digest) as folder:
            return _put(download_archive(source, digest, folder), source, name, overwrite=overwrite)
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. Give the path or URL of an archive of a reference.")
    if (found := sha256_of(path)) != digest:
        raise ValueError(f"{path} has the SHA-256 {found}, not {digest}. Nothing was unpacked.")
    return _put(path, source, name, overwrite=overwrite)


def _put(archive: Path, source: str, name: str | None, *, overwrite: bool) -> Path:
    """Unpack an archive, check the reference in it, and put it in its place."""
    scratch = Path(tempfile.mkdtemp(dir=home(), prefix=SCRATCH))
    try:
        unpack(archive, scratch)
        found = [path.parent for path in scratch.rglob(store.MANIFEST)]
        if len(found) != 1:
            raise ValueError(
                f"{source} holds {len(found)} references instead of one. Pack the folder of one reference."
            )
        try:
            store.verify(found[0])
        except store.ReferenceFolderError as error:  # the folder in the message will be deleted
            raise store.ReferenceFolderError(str(error).replace(str(scratch), source)) from error
        target = _target(name, "" if found[0] == scratch else found[0].name, source)
        with new_folder(target, marker=store.MANIFEST, what="reference", overwrite=overwrite) as empty:
            shutil.copytree(found[0], empty, dirs_exist_ok=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _target(name: str | None, folder: str, source: str | Path) -> Path:
    """Return the folder to install to, by the name given, or by that of the reference's folder or repository."""
    called = folder.removesuffix(ENDING) if name is None else name
    _check_name(called, None if name is not None else source)
    return home() / f"{called}{ENDING}"


def _check_name(name: str, source: str | Path | None = None) -> None:
    """Refuse names that are not plain, and names of bundled references. ``source`` is where the name comes from."""
    what = "name" if source is None else f"{source}: the name of its folder or repository"
    remedy = "Give another name." if source is None else "Give another name with name=."
    if not looks_like_name(name):
        shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
        raise ValueError(
            f"{what} must be a plain name of at most {LONGEST_NAME} printable letters, without slashes, a dot at its "
            f"beginning or {ENDING} at its end, got {shown!r}. {remedy}"
        )
    if name.casefold() in {path.name.removesuffix(ENDING).casefold() for path in BUNDLED.glob(f"*{ENDING}")}:
        raise ValueError(f"{what} is {name!r}, the name of a reference that comes with scim. {remedy}")


def _make_home() -> None:
    folder = home()
    remedy = "references are installed there. Set SCIM_HOME to a folder that you can write to."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"SCIM_HOME={folder} is a file, or below a file, and {remedy}") from error
    except OSError as error:
        raise PermissionError(f"SCIM_HOME={folder} cannot be created ({error.strerror}), and {remedy}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"SCIM_HOME={folder} is read-only, and {remedy}")
