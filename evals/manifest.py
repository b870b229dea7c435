"""What decided the result of a study, for the manifest beside it."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evals.plan import Plan
from memp.chat import ChatModel
from memp.errors import InputError
from memp.memory import ProceduralMemory
from memp.prompts import act, distil, facts, reflect

PASSING = ("commit", "python")
"""What may change where a study goes on."""

POOLED = (*PASSING, "seed", "seeds", "split_digest", "episodes_per_arm", "memories")
"""What folders of one study may differ in and be reported as one: seeds, and what follows from them."""

PACKAGES = ("memp", "numpy", "scienceworld", "gymnasium")

LOCAL_PACKAGES = ("torch", "transformers")
"""What decides how a local model answers."""

WEIGHTS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("chat_template.jinja", "*.safetensors", "pytorch_model*.bin"),
)
"""The files of a model folder that decide what it answers, as patterns."""


def describe(plan: Plan) -> dict[str, Any]:
    """Return all that decides the result of a plan, and the commit it is run at."""
    identities = _identities(plan)
    packages = (*PACKAGES, *LOCAL_PACKAGES) if identities else PACKAGES
    tasks = [task.id for world in plan.worlds for task in (*world.train, *world.test)]
    with ProceduralMemory.open(":memory:", chat=plan.chat, embedder=plan.embedder, key="avefact") as memory:
        kept = {name: value for name, value in memory.describe().items() if name in ("embedder", "facts")}
    return {
        "study": plan.settings.study,
        **asdict(plan.settings),
        "env_name": plan.worlds[0].env_name,
        "model_sha256": identities,
        "prompts": {prompt.NAME: prompt.VERSION for prompt in (act, distil, facts, reflect)},
        "split_digest": digest(tasks),
        "arms": [arm.record.model_dump(mode="json") for arm in plan.arms],
        "episodes_per_arm": sum(len(world.test) * len(world.seeds) for world in plan.worlds),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions(packages),
        "memory": kept,
    }


def fingerprint(folder: Path) -> str:
    """Return a hash of the weights and the tokenizer of a model: another one after every training.

    Raises:
        InputError: if the folder holds no model.
    """
    hashed = hashlib.sha256()
    files = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern)})
    if not files:
        raise InputError(f"{folder} holds no model: none of {', '.join(WEIGHTS)}")
    for path in files:
        with path.open("rb") as file:
            hashed.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return hashed.hexdigest()


def weights(chat: ChatModel | None) -> str | None:
    """Return the fingerprint of a model that lies in a folder, as its `path` says; None of any other."""
    path = getattr(chat, "path", None)
    return fingerprint(Path(path)) if isinstance(path, str | Path) and Path(path).is_dir() else None


def _identities(plan: Plan) -> dict[str, str]:
    """The fingerprints of the models that lie in folders, by name."""
    chats = {chat.name: chat for chat in (plan.chat, *(recipe.chat for recipe in plan.recipes)) if chat}
    found = {name: weights(chat) for name, chat in chats.items()}
    return {name: fingerprinted for name, fingerprinted in found.items() if fingerprinted is not None}


def digest(names: Iterable[str]) -> str:
    """Return a hash of names in their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def commit() -> str:
    """The commit that is checked out, and whether it was changed."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:  # no git on this machine
        return "unknown"
    return found.stdout.strip() or "unknown"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed versions of some packages."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
