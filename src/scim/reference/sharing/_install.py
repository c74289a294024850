"""References by name: those that come with scim, and those that were installed."""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from ..._disk._atomic import check_target, new_folder
from ..._disk._atomic import sha256 as sha256_of
from ..._validate import did_you_mean
from ..store import _manifest as files
from ._downloads import SCRATCH, download_folder, remove_leftovers

if TYPE_CHECKING:
    import pandas as pd

#: What ``reference=None`` means.
DEFAULT = "blood"
#: Ending of a reference's folder.
ENDING = ".scim"
#: Letters, and bytes, of the longest name: file systems take 255 bytes, and folders on their way have longer names.
_LONGEST, _LONGEST_BYTES = 100, 200
_BUNDLED = Path(__file__).parents[1] / "bundled"
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


def find(name: str) -> Path:
    """Folder of a named reference; a bundled one goes before an installed one, so that nothing takes its place.

    Raises
    ------
    FileNotFoundError
        There is no such reference; the message lists those that there are.
    """
    if there := folder_of(name):
        return there
    known = references()["name"].tolist()
    raise FileNotFoundError(
        f"There is no reference named {name!r}, and no folder of that path. {did_you_mean(name, known)} "
        "scim.references() lists what is there; `scim install-reference` adds to it."
    )


def folder_or_named(path: Path) -> Path:
    """Folder of a reference by a word that may be a folder here, or the name of one that is bundled or installed.

    Raises
    ------
    ValueError
        It is both.
    FileNotFoundError
        It is neither.
    """
    there = folder_of(path.name)
    if (path / files.MANIFEST).is_file():
        if there is not None and not there.samefile(path):
            raise ValueError(
                f"{path.name!r} is a reference in this folder, and the name of another one, at {there}. Write "
                f"'./{path.name}' for the one in this folder, or rename it."
            )
        return path
    return there or (path if path.exists() else find(path.name))


def folder_of(name: str) -> Path | None:
    """Folder of a named reference, None where there is none."""
    paths = (folder / f"{name}{ENDING}" for _, folder in _folders())
    return next((path for path in paths if (path / files.MANIFEST).is_file()), None)


def is_bundled(path: Path) -> bool:
    """Whether a folder is one that comes with scim, which all share who use this installation."""
    return path.resolve().parent == _BUNDLED.resolve()


def is_name(text: str) -> bool:
    r"""Whether a text is a name rather than a path: "blood.scim" is a folder of the user's, there or not.

    Examples
    --------
    >>> [is_name(text) for text in ("blood", "blood.scim", "../blood", ".", "blood\n")]
    [True, False, False, False, False]
    """
    return (
        0 < len(text) <= _LONGEST
        and text.isprintable()
        and text == text.strip()
        and len(text.encode()) <= _LONGEST_BYTES
        and not text.endswith(ENDING)
        and not any(mark in text for mark in "/\\")
        and not text.startswith((".", "~"))
    )


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
        check_target(target, marker=files.MANIFEST, what="reference", overwrite=overwrite)
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
        found = [path.parent for path in scratch.rglob(files.MANIFEST)]
        if len(found) != 1:
            raise ValueError(f"{source} holds {len(found)} references, where one is expected.")
        try:
            files.verify(found[0])
        except files.ReferenceFolderError as error:  # its folder is gone by the time that somebody looks
            raise files.ReferenceFolderError(str(error).replace(str(scratch), source)) from error
        target = _target(name, "" if found[0] == scratch else found[0].name, source)
        with new_folder(target, marker=files.MANIFEST, what="reference", overwrite=overwrite) as empty:
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
    if not is_name(name):
        shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
        raise ValueError(
            f"{what} must be a plain name of at most {_LONGEST} printable letters, without slashes, a dot at its "
            f"beginning or {ENDING} at its end, got {shown!r}. {remedy}"
        )
    if name.casefold() in {path.name.removesuffix(ENDING).casefold() for path in _BUNDLED.glob(f"*{ENDING}")}:
        raise ValueError(f"{what} is {name!r}, that of a reference that comes with scim. {remedy}")


def _folders() -> list[tuple[str, Path]]:
    return [("bundled", _BUNDLED), ("installed", home())]


def _download(url: str, digest: str, folder: Path) -> Path:
    """Download an archive that has the SHA-256 ``digest``; errors of the network become those of Python."""
    import ftplib
    import socket

    import pooch
    import requests

    try:
        fetched = pooch.retrieve(url, known_hash=f"sha256:{digest}", path=folder, progressbar=True)
    except (requests.HTTPError, ftplib.error_perm) as error:
        answer = getattr(error, "response", None)  # FTP begins its message with it
        status = int(str(error)[:3]) if answer is None else answer.status_code
        if status in (404, 410, 550):
            raise FileNotFoundError(f"There is no {url} (status {status}). Is it spelled as it should be?") from error
        if status in (401, 403, 530):
            raise PermissionError(
                f"{url}: the server refuses (status {status}). Download it, give its path."
            ) from error
        raise ConnectionError(f"{url}: the server answered with status {status}. Try again later.") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise ValueError(f"{url} is no address that can be downloaded from: {error}") from error
    except (requests.RequestException, ftplib.Error, socket.gaierror, ConnectionError, TimeoutError) as error:
        raise ConnectionError(f"{url} cannot be reached: is this machine online, the name right? ({error})") from error
    return Path(fetched)


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


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive, which may be none, or not all of one."""
    try:
        _unpack_plain(archive, folder)
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} would write outside its folder: {error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{archive} is neither a .zip nor a .tar archive, or not all of one: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the disk's; those of gzip and bzip2 have no number
            raise
        raise ValueError(f"{archive} is damaged: {error}") from error


def _unpack_plain(archive: Path, folder: Path) -> None:
    """Unpack plain files and folders; anything that would land elsewhere, or is a link or a device, is refused."""
    # Last of all a zip file: a tar file with one at its end looks like it.
    if not tarfile.is_tarfile(archive) and zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                target = (folder / member.filename).resolve()
                is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
                if is_link or not target.is_relative_to(folder.resolve()):
                    raise ValueError(f"{archive} holds {member.filename!r}, which is outside its folder, or a link.")
            packed.extractall(folder)
        return
    with tarfile.open(archive) as packed:
        for entry in packed:
            if not (entry.isfile() or entry.isdir()):
                raise ValueError(f"{archive} holds {entry.name!r}, which is neither a file nor a folder.")
            packed.extract(entry, folder, filter="data")
