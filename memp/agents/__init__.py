"""Agents that act in text environments, behind one protocol."""

from memp.agents.base import Agent, Policy
from memp.agents.llm import LLMAgent
from memp.agents.random import RandomAgent
from memp.agents.replay import ReplayAgent

__all__ = ["Agent", "LLMAgent", "Policy", "RandomAgent", "ReplayAgent"]
