"""Agents that act in text environments, behind one protocol."""

from memp.agents.base import Agent, Policy
from memp.agents.explore import Explorer, QLearner, RandomExplorer
from memp.agents.library import SkillLibrary
from memp.agents.llm import LLMAgent
from memp.agents.random import RandomAgent
from memp.agents.replay import ReplayAgent
from memp.agents.replay_first import ReplayFirst
from memp.agents.skill import SkillAgent
from memp.agents.skills import Skill

__all__ = [
    "Agent",
    "Explorer",
    "LLMAgent",
    "Policy",
    "QLearner",
    "RandomAgent",
    "RandomExplorer",
    "ReplayAgent",
    "ReplayFirst",
    "Skill",
    "SkillAgent",
    "SkillLibrary",
]
