"""Who may import whom, and the other rules about the source that a reader relies on."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import mechgate

PACKAGE = Path(mechgate.__file__).parent
# Each room may import itself and the rooms before it; rooms that share a line may not import each other.
ORDER = (
    {"errors"},
    {"seeding"},
    {"provenance"},
    {"progress"},
    {"stats", "data"},
    {"model"},
    {"gates", "measure"},
    {"train"},
    {"analysis"},
    {"stages"},
    {"demo", "evaluation", "referee", "representation", "causality"},
    {"planted", "calibration"},
    {"questions"},
    {"study"},
    {"cli"},
    {"__main__"},
)
REPORT_IMPORTS = {"report", "errors", "provenance", "stats"}
REPORT_IMPORTERS = {
    "report",
    "analysis",
    "study",
    "demo",
    "evaluation",
    "referee",
    "representation",
    "causality",
    "questions",
    "planted",
    "cli",
    "__main__",
}
TORCH_FREE = {"stats", "data", "report"}
TORCH = {"torch", "transformers", "transformer_lens", "peft", "sae_lens", "nnsight", "lm_eval"}
MAX_LINES = 300


@dataclass(frozen=True)
class Import:
    """`source` imports `target` (both dotted module names); `executed` is False under `if TYPE_CHECKING`."""

    source: str
    target: str
    executed: bool = True


def module_files() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("mechgate", *path.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


FILES = module_files()


def walk(node: ast.AST, executed: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below `node`, and whether it is code that can run (not under `if TYPE_CHECKING`)."""
    typing_only: list[ast.stmt] = []
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        typing_only = node.body
    for child in ast.iter_child_nodes(node):
        runs = executed and child not in typing_only
        yield child, runs
        yield from walk(child, runs)


def imports_of(text: str, source: str, known: Mapping[str, Path], is_package: bool = False) -> list[Import]:
    """All imports in a module's text: at the top, inside functions and classes, and `import_module("literal")`."""
    found = []
    package = source.split(".") if is_package else source.split(".")[:-1]
    for node, executed in walk(ast.parse(text)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # The version is the one thing that modules may take from the top of the package.
            names = [alias.name for alias in node.names if (base, alias.name) != ("mechgate", "__version__")]
            targets = [f"{base}.{name}" if f"{base}.{name}" in known else base for name in names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            targets = [str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant)]
        found += [Import(source, target, executed) for target in targets]
    return found


IMPORTS = [
    found
    for name, path in FILES.items()
    for found in imports_of(path.read_text(encoding="utf-8"), name, FILES, path.name == "__init__.py")
]


def room(module: str) -> str:
    """The part of the package that a module belongs to; `mechgate` itself is its own."""
    return module.split(".")[1] if "." in module else module


def is_own(module: str) -> bool:
    return module.split(".")[0] == "mechgate"


def wrong_direction(imports: list[Import]) -> list[str]:
    """The imports within mechgate that the order of its rooms forbids."""
    wrong = []
    for edge in imports:
        source, target = room(edge.source), room(edge.target)
        if not is_own(edge.target) or source in ("mechgate", "testing"):
            continue
        if source == "report":
            allowed = REPORT_IMPORTS
        else:
            place = next((i for i, rooms in enumerate(ORDER) if source in rooms), 0)
            allowed = {source}.union(*ORDER[:place])
            allowed |= {"report"} if source in REPORT_IMPORTERS else set()
        if target not in allowed:
            wrong.append(f"{edge.source} imports {edge.target}")
    return wrong


def between_analyses(imports: list[Import]) -> list[str]:
    """The imports of one file of analysis by another."""
    return [
        f"{edge.source} imports {edge.target}"
        for edge in imports
        if room(edge.source) == room(edge.target) == "analysis"
        and "mechgate.analysis" not in (edge.source, edge.target)
    ]


def reachable(start: str, imports: list[Import]) -> set[str]:
    """All modules, of mechgate or not, that can be imported because `start` is, at once or by a call."""
    seen, todo = set(), [start]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        todo += [edge.target for edge in imports if edge.source == module and edge.executed]
        if is_own(module) and "." in module:
            todo.append(module.rpartition(".")[0])  # importing a module runs the packages around it
    return seen


def roots(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def loaded_by(modules: list[str], among: set[str]) -> list[str]:
    """Which packages of `among` a fresh Python has loaded after importing `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*sorted(set({sorted(among)}) & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions and classes of a module, and public methods of its public classes.

    Properties are left out: like fields, they are described by the docstring of their class.
    """
    bodies: list[list[ast.stmt]] = [tree.body]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                # Overloads are documented where the function itself is.
                decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
                if decorators & {"property", "cached_property", "setter", "overload"}:
                    continue
                yield node
                if isinstance(node, ast.ClassDef):
                    bodies.append(node.body)


def undocumented(text: str) -> list[str]:
    """The public definitions in a module's text that have no docstring."""
    found = [node for node in public_definitions(ast.parse(text)) if not ast.get_docstring(node)]
    return [f"line {node.lineno}: {node.name}" for node in found]


def test_every_module_has_a_place_in_the_order() -> None:
    placed = set().union(*ORDER) | {"mechgate", "report", "testing"}
    assert {room(name) for name in FILES} - placed == set()


def test_imports_point_backwards_only() -> None:
    assert wrong_direction(IMPORTS) == []


def test_files_of_analysis_do_not_import_one_another() -> None:
    assert between_analyses(IMPORTS) == []


def test_nothing_imports_the_testing_module() -> None:
    assert [edge.source for edge in IMPORTS if room(edge.target) == "testing"] == []


def test_stats_data_and_report_never_name_torch() -> None:
    named = [edge for edge in IMPORTS if room(edge.source) in TORCH_FREE and edge.target.split(".")[0] in TORCH]
    assert named == []


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in TORCH_FREE])
def test_no_chain_of_imports_leads_from_stats_data_or_report_to_torch(name: str) -> None:
    assert roots(reachable(name, IMPORTS)) & TORCH == set()


def test_importing_all_of_stats_data_and_report_does_not_load_torch() -> None:
    assert loaded_by([name for name in FILES if room(name) in TORCH_FREE], TORCH) == []


def test_importing_mechgate_loads_neither_torch_nor_numpy() -> None:
    assert loaded_by(["mechgate"], TORCH | {"numpy"}) == []


def test_importing_the_model_room_does_load_what_the_two_tests_above_look_for() -> None:
    assert loaded_by(["mechgate.model.scoring"], {"torch", "numpy"}) == ["numpy", "torch"]


@pytest.mark.parametrize("name", FILES)
def test_a_module_has_at_most_300_lines(name: str) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", FILES)
def test_public_functions_classes_and_methods_have_docstrings(name: str) -> None:
    assert undocumented(FILES[name].read_text(encoding="utf-8")) == []


def test_a_missing_docstring_is_noticed() -> None:
    text = (
        "def f(): ...\ndef _g(): ...\n"
        "class C:\n    'Said.'\n    def m(self): ...\n    @property\n    def p(self): ...\n    def _n(self): ...\n"
    )
    assert undocumented(text) == ["line 1: f", "line 5: m"]


@pytest.mark.parametrize("name", mechgate._MODULES)
def test_a_lazy_name_is_what_its_module_defines(name: str) -> None:
    module = importlib.import_module(mechgate._MODULES[name])
    assert getattr(mechgate, name) is getattr(module, name)


def test_all_dir_and_the_lazy_names_agree() -> None:
    assert sorted(mechgate.__all__) == sorted([*mechgate._MODULES, "__version__"])
    assert set(mechgate.__all__) <= set(dir(mechgate))


def test_type_checkers_see_the_lazy_names_where_they_are() -> None:
    tree = ast.parse(FILES["mechgate"].read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node, executed in walk(tree)
        if isinstance(node, ast.ImportFrom) and not executed
        for alias in node.names
    }
    assert seen == mechgate._MODULES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'inverted_gates'"):
        mechgate.inverted_gates  # noqa: B018 - looking it up is the test


def test_the_walk_sees_imports_at_the_top_in_functions_relative_and_for_typing() -> None:
    text = (
        "from typing import TYPE_CHECKING\n"
        "import torch.nn as nn\n"
        "from mechgate import gates, Pair, __version__\n"
        "if TYPE_CHECKING:\n    from mechgate.model.loading import load_model\n"
        "else:\n    import mechgate.errors\n"
        "class C:\n    def f(self):\n        from ..train import gates\n        from . import pairs\n"
        "        importlib.import_module('mechgate.cli')\n"
    )
    known = dict.fromkeys(["mechgate.gates", "mechgate.data.pairs", "mechgate.train.gates"], Path())
    found = {(edge.target, edge.executed) for edge in imports_of(text, "mechgate.data.tasks", known)}
    assert found == {
        ("typing", True),
        ("torch.nn", True),
        ("mechgate.gates", True),
        ("mechgate", True),
        ("mechgate.model.loading", False),
        ("mechgate.errors", True),
        ("mechgate.train.gates", True),
        ("mechgate.data.pairs", True),
        ("mechgate.cli", True),
    }


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("stats.estimates", "data.pairs"),
        ("data.pairs", "model.prompts"),
        ("gates.gate", "measure.margins"),
        ("measure.margins", "gates.gate"),
        ("train.loop", "analysis.atlas"),
        ("report.page", "seeding"),
        ("measure.margins", "report.results"),
        ("train.loop", "report.results"),
        ("study", "cli"),
        ("errors", "provenance"),
    ],
)
def test_an_import_in_the_wrong_direction_is_noticed(source: str, target: str) -> None:
    assert wrong_direction([Import(f"mechgate.{source}", f"mechgate.{target}")]) != []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("model.loading", "data.pairs"),
        ("train.loop", "measure.margins"),
        ("analysis.atlas", "report.results"),
        ("report.page", "stats.estimates"),
        ("study", "referee"),
        ("cli", "seeding"),
        ("gates.gateset", "gates.storage"),
    ],
)
def test_an_import_in_the_right_direction_is_allowed(source: str, target: str) -> None:
    assert wrong_direction([Import(f"mechgate.{source}", f"mechgate.{target}")]) == []


def test_the_names_at_the_top_of_the_package_are_not_for_its_own_modules() -> None:
    assert wrong_direction([Import("mechgate.gates.gate", "mechgate")]) != []


def test_an_import_between_two_analyses_is_noticed() -> None:
    assert between_analyses([Import("mechgate.analysis.atlas", "mechgate.analysis.patching")]) != []


def test_a_chain_of_imports_is_followed_through_packages_and_not_through_typing() -> None:
    chain = [
        Import("mechgate.stats.a", "mechgate.seeding.b"),
        Import("mechgate.seeding", "torch"),
        Import("mechgate.stats.a", "transformers", executed=False),
    ]
    assert roots(reachable("mechgate.stats.a", chain)) == {"mechgate", "torch"}
