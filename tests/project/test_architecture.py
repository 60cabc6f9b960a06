"""The house as it is meant to be: floors, circles, the sizes of files, what is allowed where."""

import ast
import inspect
import io
import re
import tokenize
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dlcore
from dlcore.functional import _information
from dlcore.nn._options import ArrayAttribute

PACKAGE = Path(dlcore.__file__).parent
ROOT = Path(__file__).parents[2]
CPP = ROOT / "cpp"
DOCS = ROOT / "docs"

# From the ground up: a room imports from those before it. `reference` and `functional` do not know
# of each other.
FLOORS = (
    "_common",
    "_native",
    "reference",
    "functional",
    "optim",
    "preprocessing",
    "metrics",
    "nn",
    "callbacks",
    "training",
    "diagnostics",
    "many",
    "sklearn",
    "saving",
    "export",
)
MODULES = {
    ".".join(("dlcore", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SOURCES = sorted(p for p in CPP.rglob("*") if p.suffix in (".cpp", ".hpp", ".inc"))

# Lines of a file, without its docstrings, comments and blank lines.
LONGEST = 500


def room(module):
    """Return the folder of a module, None for one of the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None


def imported(tree):
    """Give the modules of dlcore that a syntax tree imports when it runs, functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            # A name of a package may be a module of it.
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name for name in below if name in MODULES or f"{name}.__init__" in MODULES]
            if len(names) < len(below):
                names.append(node.module)
        else:
            yield from imported(node)
            continue
        yield from (name for name in names if name.split(".")[0] == "dlcore")


@cache
def imports(module):
    """Return the modules of dlcore that a module imports."""
    names = set(imported(ast.parse(MODULES[module].read_text(encoding="utf-8"))))
    return {f"{name}.__init__" if name not in MODULES else name for name in names}


def test_every_room_has_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FLOORS)


@pytest.mark.parametrize("module", [m for m in MODULES if room(m)])
def test_imports_go_down_only(module):
    upward = [
        name
        for name in imports(module)
        if room(name) is None or FLOORS.index(room(name)) > FLOORS.index(room(module))
    ]
    assert not upward


def test_there_is_no_circle():
    for graph in (
        {module: imports(module) - {module} for module in MODULES},
        {
            floor: {room(n) for m in MODULES if room(m) == floor for n in imports(m)} - {floor}
            for floor in FLOORS
        },
    ):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) and room(m)[0] != "_"])
def test_files_of_public_rooms_begin_with_an_underscore(module):
    assert module.rpartition(".")[2].startswith("_")


@pytest.mark.parametrize("floor", [floor for floor in FLOORS if floor[0] != "_"])
def test_a_room_is_a_table_of_contents(floor):
    init = MODULES[f"dlcore.{floor}.__init__"]
    tree = ast.parse(init.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if floor != "sklearn":  # which is no part of the package's own names
        contents = __import__(f"dlcore.{floor}", fromlist=["*"])
        assert all(hasattr(contents, name) for name in contents.__all__)
        if floor not in ("metrics", "reference"):
            assert set(contents.__all__) <= set(dlcore.__all__)


def test_dir_shows_public_names_alone():
    assert dir(dlcore) == sorted(dlcore.__all__)
    modules = {name for name in dlcore.__all__ if inspect.ismodule(getattr(dlcore, name))}
    assert modules == {"information", "init", "reference"}
    assert set(dlcore.information.__all__) == set(_information.__all__)


# ---- the sizes of files


def lines_of_python(text):
    """Count the lines that are neither blank nor a comment or a docstring."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    skipped = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in skipped
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(code - docstrings)


def without_comments(text):
    """Return C++ without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("path", MODULES.values(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_are_short(path):
    assert lines_of_python(path.read_text(encoding="utf-8")) <= LONGEST


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CPP)))
def test_sources_are_short(path):
    lines = without_comments(path.read_text(encoding="utf-8")).splitlines()
    assert sum(bool(line.strip()) for line in lines) <= LONGEST


# ---- what is allowed where


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CPP)))
def test_pybind11_and_openmp_in_one_place_each(path):
    code = without_comments(path.read_text(encoding="utf-8"))
    place = path.relative_to(CPP)
    if place.parts[0] != "bindings":
        assert not re.search(r"pybind11|\bpy::|Python\.h", code), "pybind11 below bindings/ alone"
    if place.parts[0] != "core" or place.stem != "parallel":
        assert not re.search(r"#\s*pragma omp|omp\.h|\bomp_\w+\(", code), "OpenMP in parallel alone"


# Where a family has another basename in C++.
_IN_CPP = {"clipping": "optimizers"}


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "functional").glob("_[a-z]*.py")), ids=lambda p: p.stem
)
def test_basenames_are_the_map(path):
    """What calls a kernel has its specification and its binding or kernels under the same name."""
    if "dispatch.core" not in path.read_text(encoding="utf-8"):
        return  # plain NumPy itself
    assert (PACKAGE / "reference" / path.name).exists()
    name = path.stem.removeprefix("_")
    stems = {p.stem for folder in ("bindings", "kernels") for p in (CPP / folder).glob("*.cpp")}
    assert _IN_CPP.get(name, name) in stems


def wordings():
    """Return what the checks say, as parts of their messages."""
    tree = ast.parse(MODULES["dlcore._common.checks"].read_text(encoding="utf-8"))
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    parts = {
        part.value
        for node in raised
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    return {part for part in parts if len(part) > len(" must be in ")} | {" must be in "}


@pytest.mark.parametrize("module", [m for m in MODULES if m != "dlcore._common.checks"])
def test_what_an_argument_must_be_is_worded_in_one_place(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    texts = [
        part.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    assert len(wordings()) > 6
    texts = [text.replace("one of Optuna's", "Optuna's") for text in texts]
    assert not [text for text in texts if any(wording in text for wording in wordings())]


def test_extras_are_imported_in_one_place():
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if module != "dlcore._common.optional":
            assert "except ImportError" not in text, module
            assert "pip install" not in text, module


# ---- what the docs show


def test_the_docs_hide_no_public_method():
    for page in (DOCS / "api").glob("*.md"):
        hidden = re.findall(r":exclude-members:((?:.*\n)(?:\s{3,}.*\n)*)", page.read_text("utf-8"))
        names = re.findall(r"\w+", " ".join(hidden))
        # scikit-learn gives these to each estimator, for its routing of metadata.
        assert [n for n in names if not re.fullmatch(r"set_\w+_request", n)] == []


@pytest.mark.parametrize("name", dlcore.__all__)
def test_public_methods_are_documented(name):
    item = getattr(dlcore, name)
    if not inspect.isclass(item):
        return
    for method, value in inspect.getmembers(item):
        own = any(
            method in vars(kind) and kind.__module__.startswith("dlcore.") for kind in item.__mro__
        )
        is_method = inspect.isfunction(value) or isinstance(value, property | ArrayAttribute)
        if own and is_method and not method.startswith("_"):
            assert inspect.getdoc(value), f"{name}.{method}"


def test_floors_of_the_tests_and_the_package_have_the_same_names():
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name[0] not in "._"}
    others = {"data", "support", "project", "estimators", "reference"}
    rooms = {floor.removeprefix("_") for floor in FLOORS}
    assert folders - others <= rooms


def test_the_page_on_the_architecture_has_the_floors_in_this_order():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (`.*?`) \|", page, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(reversed(rows))) == list(FLOORS)
