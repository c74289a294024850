"""References on the Hugging Face Hub: pushed as the files of their manifest, and pulled as just these."""

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

#: What a source on the Hub begins with: ``hf://user/name@revision``.
SCHEME = "hf://"


def split(source: str) -> tuple[str, str | None]:
    """Repository and revision of ``hf://user/name@revision``.

    Raises
    ------
    ValueError
        It is of another form.
    """
    repo_id, at, revision = source.removeprefix(SCHEME).partition("@")
    if not _has_owner(repo_id) or (at and not revision):
        raise ValueError(f"{source} must look like {SCHEME}user/name@revision.")
    return repo_id, revision or None


def _has_owner(repo_id: str) -> bool:
    parts = repo_id.split("/")
    return len(parts) == 2 and all(parts)


def pull(source: str, target: Path, *, digest: str | None, overwrite: bool, home: Path) -> None:
    """Download a reference to ``target``, and check every file before it appears there.

    Parameters
    ----------
    source
        ``hf://user/name@revision``.
    target
        Folder to make.
    digest
        SHA-256 of its manifest.json.
    overwrite
        Replace a reference at ``target``.
    home
        Folder that references are installed to. An interrupted download is kept there, and goes on later.

    Raises
    ------
    ValueError
        Neither ``digest`` nor a whole commit hash fixes what is pulled; or the repository holds no reference, or
        another one.
    BlockingIOError
        Somebody else is downloading the same just now.
    ImportError, PermissionError, FileNotFoundError, ConnectionError
        The Hub cannot be used, or does not have it for you.
    """
    repo_id, revision = split(source)
    api = _api()
    commit = revision if _is_commit(revision) else _resolve(api, repo_id, revision)
    assert commit is not None
    if digest is None and commit != revision:
        raise ValueError(
            f"{source} is no fixed version: a branch or tag can be moved to other files. It is at {commit} now: take "
            f"{SCHEME}{repo_id}@{commit}, or give the SHA-256 of its {store.MANIFEST}."
        )
    with download_folder(home, f"{repo_id.replace('/', '--')}@{commit}") as folder:
        path = _download(api, repo_id, commit, store.MANIFEST, folder)
        if digest is not None and (found := sha256(path)) != digest:
            clear(folder)
            raise ValueError(
                f"The {store.MANIFEST} of {source} has the SHA-256 {found}, not {digest}. Nothing was installed."
            )
        names = list(store.read_manifest(folder)["files"])
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or ":" in name:
                clear(folder)
                raise store.ReferenceFolderError(f"{source} lists {name!r}, which is outside its folder.")
        for name in names:
            _download(api, repo_id, commit, name, folder)
        try:
            with new_folder(target, marker=store.MANIFEST, what="reference", overwrite=overwrite) as empty:
                for name in [*names, store.MANIFEST]:
                    (empty / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(folder / name, empty / name)
                store.verify(empty)
        finally:
            clear(folder)


def _api() -> HfApi:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError("The Hugging Face Hub needs huggingface_hub: pip install 'scim-tools[hub]'") from error
    # huggingface_hub reads it once, when it is imported; here it may be set at any time.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="scim-tools")


def _is_commit(revision: str | None) -> bool:
    return revision is not None and len(revision) == 40 and not set(revision) - set("0123456789abcdef")


def _resolve(api: HfApi, repo_id: str, revision: str | None) -> str:
    with explain_hub_errors(repo_id):
        return str(api.model_info(repo_id, revision=revision).sha)


def _download(api: HfApi, repo_id: str, commit: str, name: str, folder: Path) -> Path:
    with explain_hub_errors(repo_id):
        return Path(api.hf_hub_download(repo_id, name, revision=commit, local_dir=folder))


@contextmanager
def explain_hub_errors(repo_id: str, *, write: bool = False) -> Iterator[None]:
    """Turn the errors of the Hub into those of Python, with what to do."""
    from huggingface_hub import errors

    where = f"{SCHEME}{repo_id}"
    login = "Log in with `hf auth login`, or set HF_TOKEN to a token of huggingface.co/settings/tokens"
    unreachable = (
        f"{where}: the Hugging Face Hub cannot be reached. Is this machine online, and HF_HUB_OFFLINE not set?"
    )
    # What went wrong on the way has the same base as what the Hub answered.
    transport: type[BaseException] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"repo_id={repo_id!r} is no name of a repository: {error}") from error
    except errors.GatedRepoError as error:
        raise PermissionError(f"{where} is gated: ask for access on its page. {login}.") from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{where} has no such revision. Its page lists the commits.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ConnectionError(unreachable) from error
    except errors.EntryNotFoundError as error:
        raise store.ReferenceFolderError(
            f"{where} is no reference, or not all of one: a file is missing. scim.push_reference makes one. ({error})"
        ) from error
    except errors.RepositoryNotFoundError as error:
        if write:
            raise PermissionError(f"{where} cannot be written to. {login}, one that may write.") from error
        raise FileNotFoundError(f"There is no {where}, or it is private. {login}, if it is yours.") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(
                f"{where}: the Hub refuses (status {status}). {login}, one that may write."
            ) from error
        raise ConnectionError(f"{where}: the Hub answered with status {status}. Try again later. ({error})") from error
    except (transport, ConnectionError, TimeoutError) as error:
        raise ConnectionError(unreachable) from error
