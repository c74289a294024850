"""Pull references from the Hugging Face Hub, and explain errors of the Hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..._disk import new_folder, sha256
from .. import store
from ._downloads import clear, download_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: Prefix of a source on the Hub: ``hf://user/name@revision``.
SCHEME = "hf://"


def split_source(source: str) -> tuple[str, str | None]:
    """Split ``hf://user/name@revision`` into repository and revision. Another form is a ValueError."""
    repo_id, at, revision = source.removeprefix(SCHEME).partition("@")
    if not has_owner(repo_id) or (at and not revision):
        raise ValueError(f"{source} must look like {SCHEME}user/name@revision.")
    return repo_id, revision or None


def has_owner(repo_id: str) -> bool:
    """Whether a repository is named ``owner/name``."""
    parts = repo_id.split("/")
    return len(parts) == 2 and all(parts)


def pull(source: str, target: Path, *, digest: str | None, overwrite: bool, home: Path) -> None:
    """Download a reference to ``target``, and check every file before it appears there.

    Parameters
    ----------
    source
        ``hf://user/name@revision``.
    target
        Folder to create.
    digest
        SHA-256 of manifest.json.
    overwrite
        Replace a reference at ``target``.
    home
        Folder of installed references. It keeps an interrupted download, which continues later.

    Raises
    ------
    ValueError
        Neither ``digest`` nor a whole commit hash fixes the content; the repository has no reference, or another one.
    BlockingIOError
        Another process is downloading the same version.
    ImportError, PermissionError, FileNotFoundError, ConnectionError
        As in :func:`scim.install_reference`.
    """
    repo_id, revision = split_source(source)
    api = hub_api()
    commit = revision if _is_commit(revision) else _resolve(api, repo_id, revision)
    assert commit is not None
    if digest is None and commit != revision:
        raise ValueError(
            f"{source} is not a fixed version: a branch or tag can be moved to other files. It is at {commit} now. "
            f"Take {SCHEME}{repo_id}@{commit}, or give the SHA-256 of its {store.MANIFEST}."
        )
    with download_folder(home, f"{repo_id.replace('/', '--')}@{commit}") as folder:
        path = download_file(api, repo_id, commit, store.MANIFEST, folder)
        if digest is not None and (found := sha256(path)) != digest:
            clear(folder)
            raise ValueError(
                f"The {store.MANIFEST} of {source} has the SHA-256 {found}, not {digest}. Nothing was installed."
            )
        names = list(store.read_manifest(folder)["files"])
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or ":" in name:
                clear(folder)
                raise store.ReferenceFolderError(
                    f"{source} lists {name!r}, which is outside its folder. Do not use it."
                )
        for name in names:
            download_file(api, repo_id, commit, name, folder)
        try:
            with new_folder(target, marker=store.MANIFEST, what="reference", overwrite=overwrite) as empty:
                for name in [*names, store.MANIFEST]:
                    (empty / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(folder / name, empty / name)
                store.verify(empty)
        finally:
            clear(folder)


def hub_api() -> HfApi:
    """Connect to the Hub, or raise an ImportError if huggingface_hub is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError("The Hugging Face Hub needs huggingface_hub: pip install 'scim-tools[hub]'") from error
    # huggingface_hub reads HF_ENDPOINT only when it is imported.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="scim-tools")


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and not set(revision) - set("0123456789abcdef")


def _resolve(api: HfApi, repo_id: str, revision: str | None) -> str:
    with explain_hub_errors(repo_id):
        return str(api.model_info(repo_id, revision=revision).sha)


def download_file(api: HfApi, repo_id: str, commit: str, name: str, folder: Path) -> Path:
    """Download a file of a repository to a folder."""
    with explain_hub_errors(repo_id):
        return Path(api.hf_hub_download(repo_id, name, revision=commit, local_dir=folder))


@contextmanager
def explain_hub_errors(repo_id: str, *, write: bool = False) -> Iterator[None]:
    """Turn errors of the Hub into errors of Python that say what to do."""
    from huggingface_hub import errors

    where = f"{SCHEME}{repo_id}"
    login = "Log in with `hf auth login`, or set HF_TOKEN to a token of huggingface.co/settings/tokens"
    refuse = f"{login}, with the right to write."
    offline = f"{where}: the Hugging Face Hub cannot be reached. Is this machine online, and HF_HUB_OFFLINE not set?"
    # The base class of all errors of the connection.
    transport: type[BaseException] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"repo_id={repo_id!r} is not a name of a repository: {error}") from error
    except errors.GatedRepoError as error:
        raise PermissionError(f"{where} is gated. Ask for access on its page. {login}.") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{where} has no such revision. Its page lists the commits.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ConnectionError(offline) from error
    except errors.EntryNotFoundError as error:
        raise store.ReferenceFolderError(
            f"{where} is not a whole reference: a file is missing. Push it again with scim.push_reference. ({error})"
        ) from error
    except errors.RepositoryNotFoundError as error:
        if write:
            raise PermissionError(f"{where} cannot be written to. {refuse}") from error
        raise FileNotFoundError(f"There is no {where}, or it is private. {login}, if it is yours.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"{where}: the Hub refuses (status {status}). {refuse}") from error
        raise ConnectionError(f"{where}: the Hub answered with status {status}. Try again later. ({error})") from error
    except (transport, ConnectionError, TimeoutError) as error:
        raise ConnectionError(offline) from error
