"""References on the Hugging Face Hub, by a small server that speaks as much of its language as that takes."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

import scim
from scim._disk._checksums import sha256
from scim.cli import app

pytest.importorskip("huggingface_hub")
TOKEN = "hf_allowed"


class Hub:
    """Repositories: their commits, newest last, each a hash and files by name; and what was asked of the server."""

    def __init__(self) -> None:
        self.repos: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repos.setdefault(repo, [])
        name = hashlib.sha1(f"{repo}{len(commits)}".encode()).hexdigest()
        commits.append((name, files))
        return name

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        for name, files in reversed(self.repos[repo]):
            if revision in ("main", name):
                return name, files
        return None


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content: object, status: int = 200) -> None:
        self.reply(status, json.dumps(content).encode(), Content_Type="application/json")

    def refused(self, code: str, status: int = 404) -> None:
        self.reply(status, b"{}", X_Error_Code=code, X_Error_Message=code)

    def route(self) -> list[str]:
        self.hub.asked.append(f"{self.command} {self.path}")
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def do_GET(self) -> None:
        parts = self.route()
        is_info = parts[:2] == ["api", "models"]
        repo = "/".join(parts[2:4] if is_info else parts[:2])
        if repo not in self.hub.repos:
            return self.refused("RepoNotFound", 401)
        at = parts.index("revision" if is_info else "resolve") if {"revision", "resolve"} & set(parts) else None
        revision = "main" if at is None else parts[at + 1]
        found = self.hub.find(repo, revision)
        if found is None:
            return self.refused("RevisionNotFound")
        name, files = found
        if is_info:
            return self.json(
                {
                    "id": repo,
                    "sha": name,
                    "private": self.hub.private.get(repo),
                    "siblings": [{"rfilename": f} for f in files],
                }
            )
        assert at is not None
        path = "/".join(parts[at + 2 :])
        if path not in files:
            return self.refused("EntryNotFound")
        body = files[path]
        self.reply(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=name)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        parts = self.route()
        here = f"http://{self.headers['Host']}"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refused("", 401)
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            repo = "/".join(filter(None, [asked.get("organization") or "me", asked["name"]]))
            if repo in self.hub.repos:
                return self.json({"url": f"{here}/{repo}"}, 409)
            self.hub.commit(repo, {".gitattributes": b""})
            self.hub.private[repo] = bool(asked.get("private")) or asked.get("visibility") == "private"
            return self.json({"url": f"{here}/{repo}", "name": repo})
        if parts == ["api", "validate-yaml"]:
            return self.json({"errors": [], "warnings": []})
        repo = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = json.loads(body)["files"]
            return self.json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        assert parts[4] == "commit"
        files = dict(self.hub.repos[repo][-1][1])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        name = self.hub.commit(repo, files)
        self.json({"commitUrl": f"{here}/{repo}/commit/{name}", "commitOid": name})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()
    handler = type("Handler", (_Handler,), {"hub": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("SCIM_HOME", str(tmp_path / "home"))
        yield state
        server.shutdown()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def installed(home: Path) -> list[str]:
    return [p.name for p in home.glob("*") if p.name != "downloads"]


def test_what_is_pushed_can_be_installed(folder: Path, hub: Hub, home: Path) -> None:
    source = scim.push_reference(folder, "me/lung")
    commit, files = hub.repos["me/lung"][-1]
    assert source == f"hf://me/lung@{commit}" and hub.private["me/lung"] is True
    assert sha256(folder / "manifest.json") in files["README.md"].decode()
    path = scim.install_reference(source)
    assert path == home / "lung.scim" and installed(home) == ["lung.scim"] and not list(home.glob("downloads/*"))
    for file in folder.rglob("*"):
        if file.is_file():
            assert (path / file.relative_to(folder)).read_bytes() == file.read_bytes()
    assert not (path / "README.md").exists() and not (path / ".cache").exists()
    opened = scim.Reference.open("lung")
    opened.verify()
    assert len(opened) == 700
    with pytest.raises(FileExistsError, match="overwrite=True"):
        scim.install_reference(source)
    assert scim.install_reference(source, overwrite=True, name="lung") == path


def test_a_new_version_takes_the_place_of_the_old_one(folder: Path, hub: Hub) -> None:
    scim.push_reference(folder, "me/lung")
    hub.repos["me/lung"][-1][1].update({"README.md": b"mine", "segments/0009/old": b"x", "figure.png": b"y"})
    scim.push_reference(folder, "me/lung", message="again")
    files = hub.repos["me/lung"][-1][1]
    assert files["README.md"] == b"mine" and files["figure.png"] == b"y" and "segments/0009/old" not in files


def test_the_page_tells_of_what_was_pushed_last(folder: Path, hub: Hub) -> None:
    def page() -> str:
        return hub.repos["me/lung"][-1][1]["README.md"].decode()

    scim.push_reference(folder, "me/lung")
    old, digest = page(), sha256(folder / "manifest.json")
    assert "\n700 cells" in old and digest in old
    theirs = old.replace("# lung\n", "# Lungs of mice\n") + "Cite us.\n"
    scim.Reference.open(folder).remove(rows=[0])
    hub.repos["me/lung"][-1][1]["README.md"] = theirs.encode()
    scim.push_reference(folder, "me/lung")
    assert "\n699 cells" in page() and "\n700 cells" not in page()
    assert sha256(folder / "manifest.json") in page() and digest not in page()
    assert "# Lungs of mice\n" in page() and "Cite us.\n" in page()


def test_what_is_not_fixed_is_refused_and_the_commit_named(folder: Path, hub: Hub, home: Path) -> None:
    source = scim.push_reference(folder, "me/lung")
    for loose in ("hf://me/lung", "hf://me/lung@main"):
        with pytest.raises(ValueError, match=f"not a fixed version.*{source}"):
            scim.install_reference(loose)
    digest = sha256(folder / "manifest.json")
    with pytest.raises(ValueError, match=f"has the SHA-256 {digest}, not 0000"):
        scim.install_reference("hf://me/lung", sha256="0" * 64)
    assert not installed(home)
    scim.install_reference("hf://me/lung", sha256=digest)
    assert len(scim.Reference.open("lung")) == 700


def test_changed_and_missing_files_install_nothing(folder: Path, hub: Hub, home: Path) -> None:
    source = scim.push_reference(folder, "me/lung")
    files = hub.repos["me/lung"][-1][1]
    whole = files["calibration.npz"]
    files["calibration.npz"] = whole[:-1] + b"x"
    with pytest.raises(ValueError, match="calibration.npz was changed"):
        scim.install_reference(source)
    del files["calibration.npz"]
    with pytest.raises(ValueError, match="not a whole reference"):
        scim.install_reference(source)
    assert not installed(home)
    files["calibration.npz"] = whole
    # What was downloaded before goes on from there.
    before = len(hub.asked)
    scim.install_reference(source)
    assert not any("manifest.json" in line for line in hub.asked[before:])
    assert installed(home) == ["lung.scim"]


def test_nothing_lands_outside(folder: Path, hub: Hub, home: Path) -> None:
    from scim._disk._documents import _digest

    manifest = json.loads((folder / "manifest.json").read_text())
    for evil in ("../escaped", "/escaped", "a\\..\\..\\escaped"):
        manifest["files"] = {evil: {"bytes": 1, "sha256": "0" * 64}}
        manifest["sha256"] = _digest(manifest)
        commit = hub.commit("me/evil", {"manifest.json": json.dumps(manifest).encode(), "../escaped": b"x"})
        with pytest.raises(ValueError, match="outside its folder"):
            scim.install_reference(f"hf://me/evil@{commit}")
    assert not installed(home) and not list(home.glob("downloads/*"))
    assert not any("escaped" in line for line in hub.asked)


def test_what_is_no_reference(hub: Hub, home: Path) -> None:
    commit = hub.commit("me/model", {"config.json": b"{}"})
    with pytest.raises(ValueError, match="hf://me/model is not a whole reference"):
        scim.install_reference(f"hf://me/model@{commit}")
    with pytest.raises(ValueError, match="no such revision"):
        scim.install_reference("hf://me/model@v2")
    with pytest.raises(FileNotFoundError, match="no hf://me/nothing, or it is private.*HF_TOKEN"):
        scim.install_reference("hf://me/nothing")
    for wrong in ("hf://lung", "hf://me/lung@", "hf://me/a/b"):
        with pytest.raises(ValueError, match="must look like"):
            scim.install_reference(wrong)
    with pytest.raises(ValueError, match="not a name of a repository"):
        scim.install_reference("hf://me/lu ng")
    assert not installed(home)


def test_the_name_of_a_repository_is_checked_as_well(folder: Path, hub: Hub, home: Path) -> None:
    source = scim.push_reference(folder, "me/blood")
    asked = len(hub.asked)
    with pytest.raises(ValueError, match=r"'blood', the name of a reference that comes with scim\. .* with name="):
        scim.install_reference(source)
    assert len(hub.asked) == asked and not installed(home)
    scim.install_reference(source, name="mine")
    assert installed(home) == ["mine.scim"]


@pytest.mark.parametrize("name", ["lung", "me/", "/lung", "hf://me/lung"])
def test_a_repository_has_an_owner(folder: Path, hub: Hub, name: str) -> None:
    with pytest.raises(ValueError, match="repo_id must look like 'user/name'"):
        scim.push_reference(folder, name)
    assert not hub.repos


def test_not_logged_in(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(PermissionError, match="hf auth login"):
        scim.push_reference(folder, "me/lung")
    assert not hub.repos


def test_offline(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="cannot be reached"):
        scim.install_reference("hf://me/lung")
    with pytest.raises(ConnectionError, match="cannot be reached"):
        scim.push_reference(folder, "me/lung")
    # As the environment variable does it, which is read once.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        scim.install_reference("hf://me/lung@" + "0" * 40)


def test_commands(folder: Path, hub: Hub) -> None:
    pushed = CliRunner().invoke(app, ["push-reference", str(folder), "me/lung"])
    assert pushed.exit_code == 0, pushed.output
    source = pushed.output.split()[-1]
    assert source == f"hf://me/lung@{hub.repos['me/lung'][-1][0]}"
    done = CliRunner().invoke(app, ["install-reference", source, "--name", "mine"])
    assert done.exit_code == 0 and "--reference mine" in done.output
    loose = CliRunner().invoke(app, ["install-reference", "hf://me/lung"])
    assert loose.exit_code == 1 and source in loose.stderr


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: scim.push_reference(folder, "me/lung"), lambda: scim.install_reference("hf://me/lung")):
        with pytest.raises(ImportError, match=r"scim-tools\[hub\]"):
            call()


def test_counts_of_cells_do_not_get_public_silently(folder: Path, hub: Hub) -> None:
    with pytest.warns(UserWarning, match="everybody can read"):
        scim.push_reference(folder, "me/lung", private=False)
    assert hub.private["me/lung"] is False


def test_nor_into_a_repository_that_is_public_already(folder: Path, hub: Hub) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scim.push_reference(folder, "me/lung")
    hub.private["me/lung"] = False
    with pytest.warns(UserWarning, match="me/lung is public already: .*everybody can read") as warned:
        scim.push_reference(folder, "me/lung")
    assert warned[0].filename == __file__


def test_a_damaged_reference_is_not_pushed(folder: Path, hub: Hub) -> None:
    path = folder / "calibration.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="calibration.npz was changed"):
        scim.push_reference(folder, "me/lung")
    assert not hub.asked
