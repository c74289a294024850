"""References on the Hugging Face Hub: pushed as the files of their manifest, and pulled as just these."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..._disk._atomic import new_folder, sha256
from ..._warn import warn
from .._reference import Reference
from ..store import _manifest as files
from ._downloads import clear, download_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: What a source on the Hub begins with: ``hf://user/name@revision``.
SCHEME = "hf://"
_README = "README.md"
#: What stands around the part of a repository's page that scim wrote, and renews.
_BEGIN, _END = "<!-- written by scim: renewed with every push -->", "<!-- end of what scim wrote -->"
#: What scim wrote before there were these marks.
_UNMARKED = "A reference of [scim](https://pypi.org/project/scim-tools/) to label cells"
#: What earlier versions of a reference may have left in a repository.
_LEFTOVERS = (f"{files.SEGMENTS}/", f"{files.INDEX}/", f"{files.ENCODER}/", "calibration")


def push_reference(
    reference: Reference | str | Path, repo_id: str, *, private: bool = True, message: str | None = None
) -> str:
    """Publish a reference on the Hugging Face Hub (``pip install 'scim-tools[hub]'``).

    Every file is checked first. A repository that is there gets a new version in a single commit; files of an older
    version go, others stay as they are; of its page (README.md) what scim wrote is renewed. Log in before:
    ``hf auth login``, or the environment variable ``HF_TOKEN``.

    Parameters
    ----------
    reference
        A reference, its path or its name.
    repo_id
        ``"user/name"`` or ``"organization/name"``, a model repository; it is made where there is none.
    private
        Only you, or the organization, can read a repository that is made now. One that is there stays as it is.
    message
        Of the commit.

    Returns
    -------
    ``"hf://user/name@commit"``, which :func:`scim.install_reference` takes anywhere.

    Raises
    ------
    ValueError
        ``repo_id`` is no name of a repository.
    ImportError
        The extra ``hub`` is not installed.
    PermissionError
        You are not logged in, or may not write there.
    ConnectionError
        The Hub cannot be reached.
    ReferenceFolderError
        (a ValueError) A file of the reference is missing or changed.

    Warns
    -----
    UserWarning
        Everybody can read the repository, new or there, and the reference keeps counts of cells as they were measured.

    Examples
    --------
    >>> source = scim.push_reference("lung.scim", "me/lung")  # doctest: +SKIP
    >>> scim.install_reference(source)  # doctest: +SKIP
    """
    if not _has_owner(str(repo_id)):
        raise ValueError(f"repo_id must look like 'user/name', got {repo_id!r}.")
    opened = Reference.open(reference)
    manifest = files.verify(opened.path)
    if not private:
        _warn_of_counts(opened, manifest)
    api = _api()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with _explained(repo_id, write=True):
        api.create_repo(repo_id, private=private, exist_ok=True)
        repository = api.model_info(repo_id)
        there = {str(file.rfilename) for file in repository.siblings or []}
        if private and repository.private is False:
            _warn_of_counts(opened, manifest, f"{repo_id} is public already: ")
        wanted = [*manifest["files"], files.MANIFEST]
        operations: list[Any] = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=opened.path / name) for name in wanted
        ]
        card = _card(opened, repo_id)
        if _README in there:
            with TemporaryDirectory() as folder:
                assert repository.sha is not None
                page = _download(api, repo_id, repository.sha, _README, Path(folder))
                card = _renewed(page.read_text(encoding="utf-8", errors="surrogateescape"), card)
        page_bytes = card.encode(errors="surrogateescape")
        operations.append(CommitOperationAdd(path_in_repo=_README, path_or_fileobj=page_bytes))
        old = sorted(name for name in there - set(wanted) if name.startswith(_LEFTOVERS))
        operations += [CommitOperationDelete(path_in_repo=name) for name in old]
        with warnings.catch_warnings():
            # A reference is an encoder with the cells that it was made for, which the Hub would have in two places.
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            commit = api.create_commit(repo_id, operations, commit_message=message or f"Reference {opened.path.name}")
    return f"{SCHEME}{repo_id}@{commit.oid}"


def _warn_of_counts(reference: Reference, manifest: dict[str, Any], why: str = "") -> None:
    kept = any(name.endswith(f"/{files.LANDMARKS}") for name in manifest["files"])
    if kept and manifest["source"].get("landmarks", "cells") == "cells":
        warn(
            f"{why}{reference.path.name} keeps the counts of some of its cells, which everybody can read once they are "
            'public. Reference.build(landmarks="simulated") keeps none.'
        )


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
            f"{SCHEME}{repo_id}@{commit}, or give the SHA-256 of its {files.MANIFEST}."
        )
    with download_folder(home, f"{repo_id.replace('/', '--')}@{commit}") as folder:
        path = _download(api, repo_id, commit, files.MANIFEST, folder)
        if digest is not None and (found := sha256(path)) != digest:
            clear(folder)
            raise ValueError(
                f"The {files.MANIFEST} of {source} has the SHA-256 {found}, not {digest}. Nothing was installed."
            )
        names = list(files.read_manifest(folder)["files"])
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name or ":" in name:
                clear(folder)
                raise files.ReferenceFolderError(f"{source} lists {name!r}, which is outside its folder.")
        for name in names:
            _download(api, repo_id, commit, name, folder)
        try:
            with new_folder(target, marker=files.MANIFEST, what="reference", overwrite=overwrite) as empty:
                for name in [*names, files.MANIFEST]:
                    (empty / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(folder / name, empty / name)
                files.verify(empty)
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
    with _explained(repo_id):
        return str(api.model_info(repo_id, revision=revision).sha)


def _download(api: HfApi, repo_id: str, commit: str, name: str, folder: Path) -> Path:
    with _explained(repo_id):
        return Path(api.hf_hub_download(repo_id, name, revision=commit, local_dir=folder))


@contextmanager
def _explained(repo_id: str, *, write: bool = False) -> Iterator[None]:
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
        raise files.ReferenceFolderError(
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


def _renewed(page: str, card: str) -> str:
    """Page of a repository with the part that scim wrote as in ``card``; one without that part stays as it is."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        return before + card[card.index(_BEGIN) : card.index(_END)] + _END + after
    return card if _UNMARKED in page and not begin else page


def _card(reference: Reference, repo_id: str) -> str:
    """Text of the page of a new repository."""
    info, digest = reference.info(), sha256(reference.path / files.MANIFEST)
    return f"""---
library_name: scim-tools
tags:
- single-cell
- cell-annotation
- scim
---
# {repo_id.partition("/")[2]}

{_BEGIN}
{_UNMARKED} and to search for similar ones:
{info["cells"]:,} cells of {len(info["studies"])} studies, {len(info["labels"])} labels, {info["genes"]:,} genes.

```bash
scim install-reference {SCHEME}{repo_id} --sha256 {digest}
```

Studies: {", ".join(info["studies"])}.

Labels: {", ".join(info["labels"])}.
{_END}
"""
