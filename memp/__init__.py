"""memp: procedural memory for LLM agents."""

from typing import TYPE_CHECKING

from memp.chat import ChatModel, ScriptedChat
from memp.embedding import Embedder
from memp.episode import Episode
from memp.errors import MempError
from memp.keys import reembed
from memp.memory import ProceduralMemory
from memp.procedure import Match, Procedure, Script
from memp.trajectory import Step, Trajectory
from memp.update import MemoryUpdate

if TYPE_CHECKING:
    from memp.integrations.openai import wrap

__all__ = [
    "ChatModel",
    "Embedder",
    "Episode",
    "Match",
    "MemoryUpdate",
    "MempError",
    "ProceduralMemory",
    "Procedure",
    "Script",
    "ScriptedChat",
    "Step",
    "Trajectory",
    "reembed",
    "wrap",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "wrap":  # loads the client of openai, which few need at once
        from memp.integrations.openai import wrap

        return wrap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
