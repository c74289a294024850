"""Upload a reference to the Hugging Face Hub."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..._disk import sha256
from ..._warn import warn
from .. import store
from .._reference import Reference
from ._hub import SCHEME, _api, _download, _has_owner, explain_hub_errors

_README = "README.md"


#: What stands around the part of a repository's page that scim wrote, and renews.
_BEGIN = "<!-- written by scim: renewed with every push -->"


_END = "<!-- end of what scim wrote -->"


#: What scim wrote before there were these marks.
_UNMARKED = "A reference of [scim](https://pypi.org/project/scim-tools/) to label cells"


#: What earlier versions of a reference may have left in a repository.
_LEFTOVERS = (f"{store.SEGMENTS}/", f"{store.INDEX}/", f"{store.ENCODER}/", "calibration")


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
    manifest = store.verify(opened.path)
    if not private:
        _warn_of_counts(opened, manifest)
    api = _api()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with explain_hub_errors(repo_id, write=True):
        api.create_repo(repo_id, private=private, exist_ok=True)
        repository = api.model_info(repo_id)
        there = {str(file.rfilename) for file in repository.siblings or []}
        if private and repository.private is False:
            _warn_of_counts(opened, manifest, f"{repo_id} is public already: ")
        wanted = [*manifest["files"], store.MANIFEST]
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
    kept = any(name.endswith(f"/{store.LANDMARKS}") for name in manifest["files"])
    if kept and manifest["source"].get("landmarks", "cells") == "cells":
        warn(
            f"{why}{reference.path.name} keeps the counts of some of its cells, which everybody can read once they are "
            'public. Reference.build(landmarks="simulated") keeps none.'
        )


def _renewed(page: str, card: str) -> str:
    """Page of a repository with the part that scim wrote as in ``card``; one without that part stays as it is."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        return before + card[card.index(_BEGIN) : card.index(_END)] + _END + after
    return card if _UNMARKED in page and not begin else page


def _card(reference: Reference, repo_id: str) -> str:
    """Text of the page of a new repository."""
    info, digest = reference.info(), sha256(reference.path / store.MANIFEST)
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
