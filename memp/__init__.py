"""memp: procedural memory for LLM agents."""

from memp.chat import ChatModel, ScriptedChat
from memp.embedding import Embedder
from memp.episode import Episode
from memp.errors import MempError
from memp.keys import reembed
from memp.memory import ProceduralMemory
from memp.procedure import Match, Procedure, Script
from memp.trajectory import Step, Trajectory
from memp.update import MemoryUpdate

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
]

__version__ = "0.1.0"
