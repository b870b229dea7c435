"""Agent Skills (agentskills.io): procedures as SKILL.md folders, and SKILL.md folders as procedures.

A skill that memp wrote holds its exact record, `references/procedure.json`, beside the page people read. What
a person changed on that page wins over the record. Skills are text to memp: nothing in them is ever run.
"""

from memp.integrations.agent_skills.exporting import best, export_skills
from memp.integrations.agent_skills.importing import import_skills, take_in
from memp.integrations.agent_skills.reading import Skill, SkillFolder, read_skills

__all__ = ["Skill", "SkillFolder", "best", "export_skills", "import_skills", "read_skills", "take_in"]
