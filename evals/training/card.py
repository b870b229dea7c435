"""The model card of a bundled model: what it is, how it came about, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import count, islice, pairwise
from pathlib import Path
from string import Template

from evals.training.batches import (
    CHUNK,
    CRUCIAL_WEIGHT,
    KNOWN_NAME_WEIGHT,
    TEXT_WEIGHT,
    batches,
)
from evals.training.demonstrations import LESSONS, lesson_of
from evals.training.train import CONTEXT, NOTES, Point, Recipe, accuracy
from evals.training.words import WORDS
from tasks.gridworld.layout import CLASSIC_SIZE

HELD_OUT = 2_000_000
"""Chunks from this number on are read by no training, nor by its curve."""

ASKED = 200
"""Demonstrations of each lesson that a finished model is asked about."""

CARD = Template("""\
---
library_name: transformers
pipeline_tag: text-generation
license: apache-2.0
tags: [gridworld, procedural-memory, agents]
---

# $name

A causal language model of $parameters parameters, trained from nothing on the text of memp's GridWorld. It does
all that memp asks of a language model: it acts from observations and guidance, distils a trajectory into a script,
names the facts of a task, and revises a script after a failure. It knows nothing else.

It is a standard `LlamaForCausalLM` checkpoint ($layers layers, width $width, $heads heads, rotary positions, context
$context, weights in half precision): `AutoModelForCausalLM.from_pretrained` and any server of such models load it,
with nothing of memp imported. In memp it is called `local:$name`.

## Data

No text that anyone wrote, no log, no other model's output: each demonstration is made by a program
(`evals/training/demonstrations.py`), numbered, and the same on every machine. It draws a fresh universe: places,
the rule of each style, names. A teacher does the task: it reads the guidance, notes what that tells of the place at
hand, and explores where it tells nothing; now and then its hand slips and it has to recover. Lessons, in percent:
$lessons. Guidance shows up to 4 procedures of every granularity, in lessons in taking notes up to 10 scripts: from
the same place, from another place of its style, from places of other styles, and from before all was moved.

An evaluation uses none of these universes, places or names. Vectors of names are random, drawn anew for every
batch, and never learned: the model can tell whether two names are the same, and nothing else.

The tokenizer knows $words words and fixed phrases; whatever else a prompt says is passed over.

## Training

`python -m evals.training $name` trains it anew: Muon, and AdamW for embeddings and norms, both at the learning rate
$learning_rate with warm-up and cosine decay; $steps steps of at most $batch_tokens tokens with their padding, seed
$seed; $tokens tokens in all. It took $minutes minutes on two cores that other work shared, and would have taken
$alone had all of it gone as fast as its fastest part. An answer counts in full, and in it a name or a verdict on
names $crucial_weight times, for there are few; what is read counts $text_weight, and a name that is read again
$known_name_weight, for it can only be looked up and copied, as in an answer. Other processors round differently, and
so come to other weights.

| step | tokens | loss | answers right on held-out demonstrations, % |
|---|---|---|---|
$curve

Tokens of the finished model's answers that are the teacher's, in $asked held-out demonstrations of each lesson:
$right. What the teacher says is one good answer of several, so these are no success rates; those are in memp's
README.

## What it cannot do

- Anything but GridWorld of $cells by $cells cells: other environments, sizes, words, questions, chat.
- Read guidance or an episode much longer than 2,000 of its tokens: it was never shown one.
- Reason where the teacher does not: the teacher takes one sub-goal after the other, not the shortest way round.
- Tell what is true of a name from the name.
""")


def write_card(name: str, folder: Path) -> None:
    """Write the card of the model in a folder, and measure for it what the model answers in each lesson."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    noted = json.loads((folder / NOTES).read_text())
    recipe, curve = Recipe(**noted["recipe"]), [Point(**point) for point in noted["curve"]]
    right = {one: accuracy(model, batches(_held_out(one), recipe.batch_tokens)) for one in LESSONS}
    parameters = sum(weights.numel() for weights in model.parameters())
    (folder / "README.md").write_text(_filled(name, recipe, curve, right, parameters))


def _held_out(lesson: str) -> Iterator[int]:
    """The numbers of demonstrations of a lesson that no training reaches, nor its curve."""
    seeds = (seed for seed in count(HELD_OUT * CHUNK) if lesson_of(seed) == lesson)
    return islice(seeds, ASKED)


def _filled(
    name: str, recipe: Recipe, curve: Sequence[Point], right: Mapping[str, float], parameters: int
) -> str:
    last = curve[-1]
    rows = [
        f"| {point.step} | {point.tokens / 1e6:.1f} M | {point.loss:.3f} | {100 * point.held_out:.1f} |"
        for point in curve
    ]
    return CARD.substitute(
        asdict(recipe),
        name=name,
        parameters=f"{parameters / 1e6:.2f} M",
        context=CONTEXT,
        lessons=", ".join(f"{lesson} {share}" for lesson, share in LESSONS.items()),
        words=len(WORDS),
        tokens=f"{last.tokens / 1e6:.0f} M",
        minutes=f"{last.seconds / 60:.0f}",
        alone=f"{undisturbed(curve) / 60:.0f}",
        text_weight=TEXT_WEIGHT,
        known_name_weight=KNOWN_NAME_WEIGHT,
        crucial_weight=f"{CRUCIAL_WEIGHT:.0f}",
        curve="\n".join(rows),
        asked=ASKED,
        right=", ".join(f"{lesson} {100 * share:.1f} %" for lesson, share in right.items()),
        cells=CLASSIC_SIZE,
    )


def undisturbed(curve: Sequence[Point]) -> float:
    """The seconds of a training whose every step takes as long as between the two points that were made fastest."""
    paces = [
        (after.seconds - before.seconds) / (after.step - before.step) for before, after in pairwise(curve)
    ]
    return curve[-1].step * min(paces, default=curve[-1].seconds / curve[-1].step)
