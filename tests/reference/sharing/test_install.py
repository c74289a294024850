"""References by name: bundled, installed from an archive, and what is refused."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

import scim
from scim._disk._checksums import sha256


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCIM_HOME", str(tmp_path / "home of références"))
    return tmp_path / "home of références"


def archive_of(folder: Path, path: Path) -> Path:
    """The reference at ``folder`` as an archive."""
    kind = {".zip": "zip", ".gz": "gztar", ".tar": "tar"}[path.suffix]
    made = shutil.make_archive(str(path.with_suffix("").with_suffix("")), kind, folder.parent, folder.name)
    return Path(made)


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar"])
def test_installed_ones_open_by_name(folder: Path, tmp_path: Path, home: Path, ending: str) -> None:
    archive = archive_of(folder, tmp_path / f"packed.{ending}")
    path = scim.install_reference(archive, sha256=sha256(archive), name="mine")
    assert path == home / "mine.scim"
    assert len(scim.Reference.open("mine")) == 700
    table = scim.references().set_index("name")
    assert table.loc["mine", "where"] == "installed" and table.loc["mine", "cells"] == 700
    with pytest.raises(FileExistsError, match="overwrite=True"):
        scim.install_reference(archive, sha256=sha256(archive), name="mine")
    scim.install_reference(archive, sha256=sha256(archive), name="mine", overwrite=True)
    assert [p.name for p in home.iterdir()] == ["mine.scim"]


def test_from_a_url(folder: Path, tmp_path: Path, home: Path) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    archive = archive_of(folder, tmp_path / "packed.tar.gz")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        with pytest.raises(ValueError, match="hash"):
            scim.install_reference(url, sha256="0" * 64)
        with pytest.raises(FileNotFoundError, match=r"no http://127.*/none.zip \(status 404\)"):
            scim.install_reference(url.replace(archive.name, "none.zip"), sha256="0" * 64)
        scim.install_reference(url, sha256=sha256(archive), name="mine")
        server.shutdown()
    with pytest.raises(ConnectionError, match="cannot be reached") as refused:
        scim.install_reference(url, sha256=sha256(archive), name="yours")
    assert type(refused.value) is ConnectionError
    with pytest.raises(ValueError, match="not a URL"):
        scim.install_reference("http://:80:x/a.zip", sha256="0" * 64)
    assert not list(home.glob("downloads/*"))
    assert len(scim.Reference.open("mine")) == 700


@pytest.mark.parametrize(("status", "error"), [(403, PermissionError), (503, ConnectionError)])
def test_a_server_that_refuses(status: int, error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    answer = requests.Response()
    answer.status_code = status
    monkeypatch.setattr(requests, "get", lambda *args, **kwargs: answer)
    with pytest.raises(error, match=f"status {status}"):
        scim.install_reference("https://example.org/a.zip", sha256="0" * 64)


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar"])
def test_not_all_of_an_archive(folder: Path, tmp_path: Path, home: Path, ending: str) -> None:
    archive = archive_of(folder, tmp_path / f"packed.{ending}")
    whole = archive.read_bytes()
    for kept in (10, len(whole) // 2, len(whole) * 9 // 10):
        archive.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=f"packed.{ending} is neither .* or is truncated"):
            scim.install_reference(archive, sha256=sha256(archive), name="mine")
    assert not list(home.glob("*")) and not list(home.glob(".*"))


def test_a_home_that_is_a_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(folder, tmp_path / "packed.tar")
    for place in (archive, archive / "below"):
        monkeypatch.setenv("SCIM_HOME", str(place))
        for source in (archive, "hf://me/lung@" + "0" * 40):
            with pytest.raises(NotADirectoryError, match="SCIM_HOME=.*packed.tar.* is a file, or below a file"):
                scim.install_reference(source, sha256=sha256(archive), name="mine")
        assert scim.references()["name"].tolist() == ["blood", "human"]


def test_a_wrong_checksum_unpacks_nothing(folder: Path, tmp_path: Path, home: Path) -> None:
    archive = archive_of(folder, tmp_path / "packed.zip")
    with pytest.raises(ValueError, match="Nothing was unpacked"):
        scim.install_reference(archive, sha256="0" * 64)
    with pytest.raises(ValueError, match="sha256 is missing"):
        scim.install_reference(archive)
    with pytest.raises(ValueError, match="64 hex digits"):
        scim.install_reference(archive, sha256="abc")
    with pytest.raises(FileNotFoundError, match="no file"):
        scim.install_reference(tmp_path / "nothing.zip", sha256="0" * 64)
    assert not list(home.glob("*"))


def test_a_changed_file_in_an_archive_is_named_by_the_archive(folder: Path, tmp_path: Path, home: Path) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "changed.scim"))
    cells = next(changed.rglob("cells.*"))
    cells.write_bytes(cells.read_bytes()[::-1])
    archive = archive_of(changed, tmp_path / "packed.tar")
    with pytest.raises(ValueError, match=r"packed\.tar.*cells\.") as refused:
        scim.install_reference(archive, sha256=sha256(archive), name="mine")
    assert str(home) not in str(refused.value) and not list(home.glob("*"))


def test_nothing_lands_outside(tmp_path: Path, home: Path) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as packed:
        entry = tarfile.TarInfo("../escaped")
        entry.size = 1
        packed.addfile(entry, io.BytesIO(b"x"))
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as packed:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(entry)
    zipped = tmp_path / "evil.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("../escaped", "x")
    for path in (evil, link, zipped):
        with pytest.raises(ValueError, match=path.name):
            scim.install_reference(path, sha256=sha256(path))
    assert not list(home.glob("*")) and not (tmp_path / "escaped").exists()


def test_what_is_no_reference(tmp_path: Path, home: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no archive")
    empty = tmp_path / "empty.zip"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "x")
    for path, message in ((text, "neither"), (empty, "0 references")):
        with pytest.raises(ValueError, match=message):
            scim.install_reference(path, sha256=sha256(path))
    with pytest.raises(ValueError, match="plain name"):
        scim.install_reference(text, sha256="0" * 64, name="../up")
    assert not list(home.glob("*"))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match=r"no reference named 'bloood'.*Did you mean 'blood'"):
        scim.Reference.open("bloood")


def test_a_folder_that_is_not_there_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert scim.Reference.open("blood").path.name == "blood.scim"
    with pytest.raises(FileNotFoundError, match="no reference 'blood.scim'"):
        scim.Reference.open("blood.scim")


def test_a_bundled_one_is_not_changed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, tmp_path / "bundled" / "blood.scim")
    monkeypatch.setattr("scim.reference.store._names.BUNDLED", tmp_path / "bundled")
    bundled = scim.Reference.open("blood")
    for change in (lambda: bundled.remove(rows=[0]), bundled.compact, bundled.reindex):
        with pytest.raises(PermissionError, match="comes with scim"):
            change()
    assert len(bundled) == 700
    shutil.copytree(bundled.path, tmp_path / "mine.scim")
    assert scim.Reference.open(tmp_path / "mine.scim").remove(rows=[0]) == 1


@pytest.mark.parametrize(
    ("called", "message"),
    [
        ("blood.scim", "'blood', the name of a reference that comes with scim"),
        ("Blood.scim", "'Blood', the name of a reference that comes with scim"),
        ("..scim", r"plain name .*got '\.'"),
        ("a\nb.scim", r"plain name .*got 'a\\nb'"),
        ("x" * 101 + ".scim", "at most 100 printable letters"),
        (".", "plain name .*got ''"),
    ],
)
def test_names_from_archives_are_checked_as_well(
    folder: Path, tmp_path: Path, home: Path, called: str, message: str
) -> None:
    archive = tmp_path / "packed.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(folder, called)
    with pytest.raises(ValueError, match=rf"packed.tar: .*{message}.* with name="):
        scim.install_reference(archive, sha256=sha256(archive))
    assert not list(home.glob("*.scim"))
    assert scim.install_reference(archive, sha256=sha256(archive), name="mine") == home / "mine.scim"


@pytest.mark.parametrize("name", ["blood", "BLOOD", ".", "", " mine", "a\nb", "a\x1b[0m", "x" * 101, "\udcff"])
def test_names_that_are_given_are_checked_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Give another name"):
        scim.install_reference(tmp_path / "nothing.zip", sha256="0" * 64, name=name)


def test_nothing_takes_the_place_of_a_bundled_one(
    folder: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, home / "blood.scim")
    (tmp_path / "here" / "blood").mkdir(parents=True)
    assert len(scim.Reference.open("blood")) == 8_708
    monkeypatch.chdir(tmp_path / "here")
    assert len(scim.Reference.open("blood")) == 8_708
    shutil.copytree(folder, tmp_path / "here" / "blood", dirs_exist_ok=True)
    assert len(scim.Reference.open(None)) == 12_587
    with pytest.raises(
        ValueError, match=r"'blood' is a reference in this folder, and the name of another one.*\./blood"
    ):
        scim.Reference.open("blood")
    for own in ("./blood", Path("blood")):
        assert len(scim.Reference.open(own)) == 700
    table = scim.references()
    assert table["name"].tolist() == ["blood", "human"] and set(table["where"]) == {"bundled"}


def test_several_at_once(folder: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    from scim.reference.sharing import _install as named

    archive = archive_of(folder, tmp_path / "packed.tar")
    unpack, unpacked = named.unpack, Barrier(4)

    def meet(*args: Path) -> None:
        unpack(*args)
        unpacked.wait(60)

    def install(name: str) -> Path | FileExistsError:
        try:
            return scim.install_reference(archive, sha256=sha256(archive), name=name)
        except FileExistsError as error:
            return error

    monkeypatch.setattr(named, "unpack", meet)
    (home / f".unpack-{os.getpid()}").mkdir(parents=True)  # of a process of the same number, long ago
    with ThreadPoolExecutor(4) as pool:
        one, other, *same = pool.map(install, ["one", "other", "same", "same"])
    assert one == home / "one.scim" and other == home / "other.scim"
    assert home / "same.scim" in same
    for error in same:
        assert error == home / "same.scim" or "same.scim" in str(error)
    for name in ("one", "other", "same"):
        scim.Reference.open(name).verify()
    names = {path.name for path in home.iterdir()}
    assert names == {"one.scim", "other.scim", "same.scim", f".unpack-{os.getpid()}"}


def test_what_killed_processes_left_goes_when_it_is_old(
    folder: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    archive = archive_of(folder, tmp_path / "packed.tar")
    left = [home / name for name in (".unpack-12", ".mine.scim.new-12", "downloads/me--lung@12", "mine")]
    for path in left:
        path.mkdir(parents=True)
        (path / "file").touch()
        os.utime(path, (0, 0))  # as archives set it
    now, seconds = time.time(), [0.0]
    monkeypatch.setattr(time, "time", lambda: now + seconds[0])
    for days, there in ((0, left), (2, left[2:]), (8, left[3:])):
        seconds[0] = days * 86_400
        scim.install_reference(archive, sha256=sha256(archive), name="new", overwrite=True)
        assert [path for path in left if path.exists()] == there


def test_one_download_at_a_time(tmp_path: Path) -> None:
    from scim.reference.sharing._downloads import download_folder

    with download_folder(tmp_path, "a") as folder, download_folder(tmp_path, "b"):
        (folder / "part").touch()
        with pytest.raises(BlockingIOError, match="install-reference, since"), download_folder(tmp_path, "a"):
            raise AssertionError
        assert (folder / "part").exists()
    assert not list(tmp_path.glob("downloads/*"))
    with pytest.raises(KeyError), download_folder(tmp_path, "a") as folder:
        (folder / "part").touch()
        raise KeyError
    assert [path.name for path in folder.iterdir()] == ["part"]
