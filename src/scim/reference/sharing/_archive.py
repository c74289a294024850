"""Archives of references: download and unpack."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path


def download_archive(url: str, digest: str, folder: Path) -> Path:
    """Download an archive with the SHA-256 ``digest``. Errors of the network become errors of Python."""
    import ftplib
    import socket

    import pooch
    import requests

    try:
        fetched = pooch.retrieve(url, known_hash=f"sha256:{digest}", path=folder, progressbar=True)
    except (requests.HTTPError, ftplib.error_perm) as error:
        answer = getattr(error, "response", None)  # FTP starts its message with the status
        status = int(str(error)[:3]) if answer is None else answer.status_code
        if status in (404, 410, 550):
            raise FileNotFoundError(f"There is no {url} (status {status}). Check the spelling.") from error
        if status in (401, 403, 530):
            message = f"{url}: the server refuses (status {status}). Download the file, and give its path."
            raise PermissionError(message) from error
        raise ConnectionError(f"{url}: the server answered with status {status}. Try again later.") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise ValueError(f"{url} is not a URL of a file: {error}. Give one that begins with https://.") from error
    except (requests.RequestException, ftplib.Error, socket.gaierror, ConnectionError, TimeoutError) as error:
        raise ConnectionError(
            f"{url} cannot be reached. Is this machine online, and the name right? ({error})"
        ) from error
    return Path(fetched)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive. A ValueError says if it is not an archive, or is damaged."""
    try:
        _unpack_plain(archive, folder)
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} would write outside its folder: {error}. Do not use this archive.") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{archive} is neither a .zip nor a .tar archive, or is truncated: {error}") from error
    except OSError as error:
        if error.errno is not None:  # an error of the disk: errors of gzip and bzip2 have no number
            raise
        raise ValueError(f"{archive} is damaged: {error}") from error


def _unpack_plain(archive: Path, folder: Path) -> None:
    """Unpack files and folders. Refuse links, devices, and files outside of ``folder``."""
    # tar goes first: a tar file that ends with a zip file looks like a zip file.
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
