"""Archives of references: download and unpack."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path


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
