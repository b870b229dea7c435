"""How a memory is to be updated by what happens with it (the paper's Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

from evals.arms import Arm, Recall, agent, baseline
from evals.plan import OpenChat, Plan, Recipe, kept
from evals.settings import Settings, Stream
from evals.worlds import worlds
from memp.chat import chat_model
from memp.embedding import embedder
from memp.update import POLICIES, Policy


@dataclass(frozen=True, kw_only=True)
class Update(Stream, Settings):
    """The settings of the study `update`."""

    study = "update"


def plan(settings: Update, open_chat: OpenChat = chat_model) -> Plan:
    """Compare no memory, one that never learns, and copies of it that learn by one policy each.

    Tasks arrive in groups. After each, every copy is updated with what its own arm lived through. Where there
    are several eras, all places are rearranged between them, and what was learned before is stale.

    With a chat model procedures are scripts and trajectories; without one they are trajectories, and there is
    no arm `reflection`.

    Raises:
        InputError: if the settings cannot be carried out.
    """
    chat = open_chat(settings.model)
    acting = agent(settings.agent, chat, settings.fallback)
    recipe = Recipe("start", kept(chat), chat, settings.key)
    policies: tuple[Policy, ...] = tuple(name for name in POLICIES if chat or name != "reflection")
    found, drawn = (Recall(recipe.name, key, settings.k) for key in (settings.key, "random"))
    return Plan(
        settings,
        recipes=(recipe,),
        arms=(
            baseline(acting),
            Arm("random", acting, drawn),
            Arm("fixed", acting, found),
            *(Arm(policy, acting, found, policy) for policy in policies),
        ),
        embedder=embedder(settings.embedder),
        chat=chat,
        worlds=worlds(settings, groups=settings.groups, eras=settings.eras),
    )
