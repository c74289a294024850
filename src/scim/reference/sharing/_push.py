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
from ._hub import SCHEME, download_file, explain_hub_errors, has_owner, hub_api

_README = "README.md"
#: Marks around the part of a repository's page that scim writes and renews.
_BEGIN = "<!-- written by scim: renewed with every push -->"
_END = "<!-- end of what scim wrote -->"
#: Files that older versions of a reference may have left in a repository.
_LEFTOVERS = (f"{store.SEGMENTS}/", f"{store.INDEX}/", f"{store.ENCODER}/", "calibration")


def push_reference(
    reference: Reference | str | Path, repo_id: str, *, private: bool = True, message: str | None = None
) -> str:
    """Push a reference to the Hugging Face Hub (``pip install 'scim-tools[hub]'``).

    Every file is checked first. An existing repository gets a new version in a single commit: files of an older version
    are deleted, other files stay, and the part of the page (README.md) that scim wrote is renewed. Log in before with
    ``hf auth login`` or the environment variable ``HF_TOKEN``.

    Parameters
    ----------
    reference
        A reference, its path or its name.
    repo_id
        ``"user/name"`` or ``"organization/name"``, a model repository. It is created if it does not exist.
    private
        Create a repository that only you, or the organization, can read. An existing repository stays as it is.
    message
        Message of the commit.

    Returns
    -------
    ``"hf://user/name@commit"``, the source for :func:`scim.install_reference`.

    Raises
    ------
    ValueError, ReferenceFolderError
        ``repo_id`` is not a name of a repository; a file of the reference is missing or changed.
    ImportError, PermissionError, ConnectionError
        The extra ``hub`` is not installed; you are not logged in, or may not write there; the Hub cannot be reached.

    Warns
    -----
    UserWarning
        The repository is public, and the reference keeps counts of cells as they were measured.

    Examples
    --------
    >>> source = scim.push_reference("lung.scim", "me/lung")  # doctest: +SKIP
    >>> scim.install_reference(source)  # doctest: +SKIP
    """
    if not has_owner(str(repo_id)):
        raise ValueError(f"repo_id must look like 'user/name', got {repo_id!r}.")
    opened = Reference.open(reference)
    manifest = store.verify(opened.path)
    if not private:
        _warn_of_counts(opened, manifest)
    api = hub_api()
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
                page = download_file(api, repo_id, repository.sha, _README, Path(folder))
                card = _renewed(page.read_text(encoding="utf-8", errors="surrogateescape"), card)
        page_bytes = card.encode(errors="surrogateescape")
        operations.append(CommitOperationAdd(path_in_repo=_README, path_or_fileobj=page_bytes))
        old = sorted(name for name in there - set(wanted) if name.startswith(_LEFTOVERS))
        operations += [CommitOperationDelete(path_in_repo=name) for name in old]
        with warnings.catch_warnings():
            # The Hub recommends a data repository for data files, but a reference also has an encoder.
            warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
            commit = api.create_commit(repo_id, operations, commit_message=message or f"Reference {opened.path.name}")
    return f"{SCHEME}{repo_id}@{commit.oid}"


def _warn_of_counts(reference: Reference, manifest: dict[str, Any], why: str = "") -> None:
    kept = any(name.endswith(f"/{store.LANDMARKS}") for name in manifest["files"])
    if kept and manifest["source"].get("landmarks", "cells") == "cells":
        warn(
            f"{why}{reference.path.name} keeps counts of cells, which everybody can read in a public repository. "
            'Reference.build(landmarks="simulated") keeps no counts of cells.'
        )


def _renewed(page: str, card: str) -> str:
    """Renew the part of a repository's page that scim wrote. A page without that part stays as it is."""
    before, _, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return before + card[card.index(_BEGIN) : card.index(_END)] + _END + after if end else page


def _card(reference: Reference, repo_id: str) -> str:
    """Return the page of a new repository."""
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
A reference of [scim](https://pypi.org/project/scim-tools/) to label cells and to search for similar ones:
{info["cells"]:,} cells of {len(info["studies"])} studies, {len(info["labels"])} labels, {info["genes"]:,} genes.

```bash
scim install-reference {SCHEME}{repo_id} --sha256 {digest}
```

Studies: {", ".join(info["studies"])}.

Labels: {", ".join(info["labels"])}.
{_END}
"""
