"""The structure of the product packages: no import cycles, no class name with two meanings."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("sllmcore", "sllmsim", "sllmreal", "traces", "experiments", "paper_figures")
COMMANDS = "sllmcore/commands.py"
MESSAGES = "sllmreal/control/messages.py"  # a message has the name of the command that it carries


def product_files() -> Iterator[Path]:
    """Yield the Python files of all product packages, relative to the root."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT)


def module_name(path: Path) -> str:
    """Return the dotted name of a file; a package has the name of its folder."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules that a file imports anywhere, also for type checkers only."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and not node.level, f"a relative import in {path}"
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                yield submodule if submodule in modules else node.module


def import_cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node, or with an edge to itself.

    Kosaraju's algorithm: in the reverse order in which a depth-first search leaves the nodes, each
    unassigned node is collected with the unassigned nodes from which it can be reached.
    """
    order: list[str] = []
    found: set[str] = set()
    for start in graph:
        visit(start, graph, found, order)
    reverse: dict[str, list[str]] = defaultdict(list)
    for node, successors in graph.items():
        for successor in successors:
            reverse[successor].append(node)
    assigned: set[str] = set()
    components = []
    for start in reversed(order):
        component: list[str] = []
        visit(start, reverse, assigned, component)
        if len(component) > 1 or (component and start in graph[start]):
            components.append(sorted(component))
    return sorted(components)


def visit(start: str, graph: Mapping[str, Iterable[str]], found: set[str], left: list[str]) -> None:
    """Search depth-first from `start`; append each new node to `left` when it is left."""
    if start in found:
        return
    found.add(start)
    stack = [(start, iter(graph.get(start, ())))]
    while stack:
        node, successors = stack[-1]
        for successor in successors:
            if successor not in found:
                found.add(successor)
                stack.append((successor, iter(graph.get(successor, ()))))
                break
        else:
            left.append(node)
            stack.pop()


def test_no_files_import_each_other_in_a_cycle() -> None:
    modules = {module_name(path): path for path in product_files()}
    graph = {
        name: [imported for imported in imports(path, modules) if imported in modules]
        for name, path in modules.items()
    }

    cycles = import_cycles(graph)

    assert not cycles, "\n".join(["import cycles:", *(", ".join(cycle) for cycle in cycles)])


def test_a_cycle_is_found_with_all_its_files_and_others_are_not() -> None:
    graph = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": [], "e": ["e", "d"]}

    assert import_cycles(graph) == [["a", "b", "c"], ["e"]]


def test_a_public_class_name_is_defined_in_one_file_only() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for path in product_files():
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].append(str(path))

    offenders = [
        f"{name}: {', '.join(sorted(defined))}"
        for name, defined in sorted(files.items())
        if len(defined) > 1 and sorted(defined) != [COMMANDS, MESSAGES]
    ]

    assert not offenders, "\n".join(["classes of one name in several files:", *offenders])
