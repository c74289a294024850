"""Promises of the package as a whole: its public names, its imports, its rooms, the size of its files."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import scim

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "scim"
#: Path below the package -> source text.
SOURCES = {p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8") for p in sorted(PACKAGE.rglob("*.py"))}
PUBLIC_MODULES = ["datasets", "get", "pl", "pp", "tl"]

#: Rooms by floor, lowest first: a room imports from floors below its own. A part of ``reference`` is a room.
FLOORS = [
    {"_compiled", "_disk", "_html", "_keys", "_progress", "_threads", "_validate", "_version", "_warn", "datasets"},
    {"genes", "get", "index", "ontology"},
    {"counts"},
    {"encoder", "pp"},
    {"labels"},
    {"model"},
    {"reference.store", "reference._cluster"},
    {"reference.cells"},
    {"reference.build", "reference._snapshot"},
    {"reference.versions", "reference.serving"},
    {"reference._reference"},
    {"reference.sharing"},
    {"reference.__init__"},
    {"pl", "tl"},
    {"__init__"},
    {"cli"},
]
#: Pairs of rooms that the floors allow, and that have nothing to do with one another.
APART = {("model", "index"), ("pp", "_disk")}
#: Lines that a file may have, where it is not the default.
MOST_LINES = {"reference/_reference.py": 500}
#: Third parties that `import scim` must not load, for they cost seconds or may be missing.
HEAVY = [
    "torch",
    "scvi",
    "faiss",
    "scanpy",
    "owlready2",
    "matplotlib",
    "numba",
    "pynndescent",
    "sklearn",
    "pyarrow",
    "duckdb",
]
#: Third parties that `import scim.reference` must not load.
HEAVY_FOR_A_REFERENCE = ["torch", "scvi", "faiss", "scanpy", "owlready2", "matplotlib", "sklearn", "anndata"]
#: Bytes of data that come with the package, at most.
MOST_BYTES_OF_DATA = 30_000_000


def public_objects() -> Iterator[tuple[str, Any]]:
    for name in scim.__all__:
        thing = getattr(scim, name)
        if isinstance(thing, ModuleType):
            for inner in getattr(thing, "__all__", []):
                yield f"{name}.{inner}", getattr(thing, inner)
        else:
            yield name, thing


def public_callables() -> Iterator[tuple[str, Any]]:
    """Functions of the modules, classes, and the methods that the classes themselves define."""
    for name, thing in public_objects():
        if inspect.isclass(thing):
            yield name, thing
            for method, raw in vars(thing).items():
                function = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
                if not method.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{method}", function
        elif callable(thing):
            yield name, thing


@cache
def imports(path: str, source: str) -> list[tuple[str, str]]:
    """Module and name of every import of a file; of ``import x``, the name is empty.

    Imports under ``TYPE_CHECKING`` and inside functions count as well.
    """
    package = ["scim", *Path(path).parent.parts]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(module, alias.name) for alias in node.names]
    return found


def module_of(path: str) -> str:
    """Dotted name of a file below ``scim``; that of a folder's door is the folder's."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] != "reference":
        return parts[0]
    return ".".join(parts[:2]) if len(parts) > 1 else "reference.__init__"


def arrows(sources: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the modules of every import inside the package: which one imports, and which one is imported."""
    modules = {module_of(path) for path in sources}
    for path, source in sources.items():
        for module, name in imports(path, source):
            if module.split(".")[0] != "scim":
                continue
            base = module.removeprefix("scim").removeprefix(".")
            submodule = f"{base}.{name}".strip(".")
            yield module_of(path), submodule if submodule in modules else base or "__init__"


def upward_imports(sources: dict[str, str]) -> list[str]:
    floor = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    missing = {room_of(module_of(path)) for path in sources} - set(floor)
    wrong = [f"{room} is not in FLOORS" for room in sorted(missing)]
    for importing, imported in arrows(sources):
        above, below = room_of(importing), room_of(imported)
        if {above, below} & missing:
            continue
        if above != below and (floor[below] >= floor[above] or (above, below) in APART):
            wrong.append(f"{importing} imports {imported}")
    return wrong


def imports_past_the_door(sources: dict[str, str]) -> list[str]:
    return [
        f"{importing} imports {imported}"
        for importing, imported in arrows(sources)
        if room_of(importing) != room_of(imported)
        and imported != room_of(imported).removesuffix(".__init__")
        and imported != "__init__"
    ]


def circle(sources: dict[str, str]) -> list[str]:
    """Files that import one another in a circle, if there are any."""
    graph: dict[str, set[str]] = {}
    for importing, imported in arrows(sources):
        # The public face loads its rooms by name, when they are asked for.
        if importing != "__init__":
            graph.setdefault(importing, set()).add(imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_public_names_load() -> None:
    assert set(scim.__all__) == {
        "SCIM",
        "CellOntology",
        "Encoder",
        "Reference",
        "datasets",
        "get",
        "install_reference",
        "pl",
        "pp",
        "push_reference",
        "references",
        "tl",
    }
    assert set(scim.__all__) < set(dir(scim))
    for name in scim.__all__:
        assert getattr(scim, name) is not None
    for verb in ("embed", "annotate", "query"):
        assert verb in scim.tl.__all__


def test_members_of_a_reference() -> None:
    assert {name for name in dir(scim.Reference) if not name.startswith("_")} == {
        "add",
        "allowed",
        "build",
        "codes",
        "compact",
        "encoder",
        "encoder_id",
        "from_scimilarity",
        "info",
        "label_codes",
        "label_model",
        "landmarks",
        "metadata",
        "n_cells",
        "n_latent",
        "n_rows",
        "obs",
        "open",
        "path",
        "pinned",
        "refresh",
        "reindex",
        "remove",
        "search",
        "sql",
        "terms",
        "to_anndata",
        "vectors",
        "verify",
    }


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert scim.__version__ == project["version"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Encodr'"):
        _ = scim.Encodr


def test_every_public_module_lists_its_names() -> None:
    for name in PUBLIC_MODULES:
        module = importlib.import_module(f"scim.{name}")
        assert module.__all__, name
        assert all(hasattr(module, inner) for inner in module.__all__)


def test_public_callables_are_documented_and_annotated() -> None:
    missing = []
    for name, thing in public_callables():
        text = inspect.getdoc(thing) or ""
        if not text:
            missing.append(f"{name}: no docstring")
        # Classes and the functions of the modules show how they are used; methods may lean on their class.
        if "." not in name or not inspect.isclass(getattr(scim, name.split(".")[0])):
            if "Examples\n---" not in text:
                missing.append(f"{name}: no Examples")
        if inspect.isclass(thing):
            continue
        signature = inspect.signature(thing)
        if signature.return_annotation is inspect.Signature.empty:
            missing.append(f"{name}: no return annotation")
        missing += [
            f"{name}: {parameter} has no annotation"
            for parameter, value in signature.parameters.items()
            if value.annotation is inspect.Parameter.empty and parameter not in ("self", "cls")
        ]
    assert not missing, "\n".join(missing)


def test_every_parameter_of_a_public_function_is_documented() -> None:
    missing = [
        f"{name}: {parameter}"
        for name, thing in public_callables()
        if not inspect.isclass(thing) and "." in name and not inspect.isclass(getattr(scim, name.split(".")[0]))
        for parameter in inspect.signature(thing).parameters
        if parameter not in (inspect.getdoc(thing) or "")
    ]
    assert not missing, "\n".join(missing)


def test_every_public_name_is_in_the_reference_pages() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = {line.strip() for line in page.splitlines()}
    missing = [name for name, thing in public_objects() if callable(thing) and name not in listed]
    assert not missing, missing


@pytest.mark.parametrize(("module", "heavy"), [("scim", HEAVY), ("scim.reference", HEAVY_FOR_A_REFERENCE)])
def test_import_is_light(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_help_is_light() -> None:
    code = (
        "import sys\nfrom scim.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in [*{HEAVY}, 'anndata', 'pandas', 'numpy'] if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_imports_point_down() -> None:
    wrong = upward_imports(SOURCES)
    assert not wrong, "\n".join(wrong)


def test_rooms_are_entered_by_their_doors() -> None:
    wrong = imports_past_the_door(SOURCES)
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_files() -> None:
    found = circle(SOURCES)
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    ("check", "path", "line"),
    [
        (upward_imports, "index/_exact.py", "from ..labels import Calibration"),
        (upward_imports, "genes/_space.py", "if TYPE_CHECKING:\n    from ..encoder import Encoder"),
        (upward_imports, "_warn.py", "def late():\n    from .tl import embed"),
        (upward_imports, "reference/store/_tables.py", "from ..build import Recipe"),
        (upward_imports, "reference/serving/_serve.py", "from ..versions import _commit"),
        (upward_imports, "counts/_scale.py", "import scim"),
        (upward_imports, "model/_model.py", "from ..index import Hits"),
        (imports_past_the_door, "labels/_head.py", "from ..ontology._term_space import TermSpace"),
        (imports_past_the_door, "reference/cells/_filters.py", "from ..store import _tables"),
        (circle, "_disk/_checksums.py", "def late():\n    from ._documents import plain"),
        (circle, "genes/_names.py", "if TYPE_CHECKING:\n    from . import GeneSpace"),
    ],
)
def test_a_forbidden_import_is_found(check: Callable[[dict[str, str]], list[str]], path: str, line: str) -> None:
    added = check({**SOURCES, path: f"{SOURCES[path]}\n{line}\n"})
    assert set(added) - set(check(SOURCES))


def test_only_the_model_imports_scvi() -> None:
    importing = {
        path.split("/")[0] for path, source in SOURCES.items() for m, _ in imports(path, source) if m[:4] == "scvi"
    }
    assert importing == {"model"}


@pytest.mark.parametrize("path", SOURCES)
def test_no_pickle(path: str) -> None:
    names = {module.split(".")[0] for module, _ in imports(path, SOURCES[path])}
    assert not names & {"pickle", "dill", "cloudpickle", "joblib"}
    calls = [node for node in ast.walk(ast.parse(SOURCES[path])) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func).endswith("torch.load"):
            assert {ast.unparse(k) for k in call.keywords} >= {"weights_only=True"}


def test_third_parties_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    spelled = {
        "pytorch_metric_learning": "pytorch-metric-learning",
        "sklearn": "scikit-learn",
        "scvi": "scvi-tools",
        "umap": "umap-learn",
        "faiss": "faiss-cpu",
    }
    declared = {r.partition(">")[0].partition("[")[0] for r in [*project["dependencies"], *extras]}
    wrong = [
        f"{path}: {module}"
        for path, source in SOURCES.items()
        for module, _ in imports(path, source)
        if (top := module.split(".")[0]) not in sys.stdlib_module_names
        and top != "scim"
        and spelled.get(top, top) not in declared
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_over_400_lines() -> None:
    lines = {path: len(source.splitlines()) for path, source in SOURCES.items()}
    assert not {path: n for path, n in lines.items() if n > MOST_LINES.get(path, 400)}


def test_no_test_file_is_over_500_lines() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").glob("**/*.py")]
    assert not {str(p.relative_to(ROOT)): n for p in files if (n := len(p.read_text().splitlines())) > 500}


def test_data_of_the_package_are_small() -> None:
    files = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files) <= MOST_BYTES_OF_DATA
