"""The house keeps its shape: imports run one way, and importing memp is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import memp

ROOT = Path(__file__).parent.parent

LAYERS = ("memp", "tasks", "evals", "tests")
"""From the bottom up: each may import itself and what stands before it."""


def imported_modules(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("layer", LAYERS)
def test_nothing_imports_from_a_layer_above(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    back = [
        (str(path.relative_to(ROOT)), module)
        for path in (ROOT / layer).rglob("*.py")
        for module in imported_modules(path)
        if module.split(".")[0] in above
    ]
    assert back == []


def test_inside_memp_imports_run_one_way() -> None:
    order = [
        {"memp.errors"},
        {"memp.trajectory", "memp.procedure", "memp.situation"},
        {"memp.trial", "memp.calls"},
        {"memp.prompts", "memp.chat", "memp.embedding", "memp.store", "memp.keywords", "memp.tokens"},
        {"memp.guidance"},
        {"memp.transcripts", "memp.formats"},
        {"memp.build", "memp.retrieve", "memp.update", "memp.holdout"},
        {"memp.memory", "memp.episode", "memp.remember", "memp.agents"},
        {"memp.neural"},
        {"memp.transfer", "memp.integrations"},
        {"memp.cli"},
    ]
    level = {name: number for number, names in enumerate(order) for name in names}

    def level_of(module: str) -> int | None:
        return level.get(".".join(module.split(".")[:2]))

    back = []
    for path in (ROOT / "memp").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        mine = level_of(module)
        for other in imported_modules(path):
            theirs = level_of(other)
            if mine is not None and theirs is not None and theirs > mine:
                back.append((module, other))
    assert back == []


def test_all_is_sorted() -> None:
    assert memp.__all__ == sorted(memp.__all__)


def test_importing_memp_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'openai', 'sentence_transformers', 'tiktoken', 'rich', 'click', 'gymnasium'}"
    code = f"import sys, memp; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_importing_memp_opens_no_socket_and_reads_no_environment_of_its_own() -> None:
    code = """
import os, sys
touched = []
sys.addaudithook(lambda event, args: touched.append(event) if event.startswith("socket.") else None)
class Watched(dict):
    def __getitem__(self, key): touched.append(key); return super().__getitem__(key)
    def get(self, key, default=None): touched.append(key); return super().get(key, default)
import numpy, pydantic  # what they read is theirs
touched.clear()
os.environ = Watched(os.environ)
import memp
print([name for name in touched if name.startswith(("socket.", "OPENAI", "MEMP", "HF_", "TIKTOKEN"))])
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_library_never_prints() -> None:
    calls = [
        (path.name, node.lineno)
        for path in (ROOT / "memp").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []
