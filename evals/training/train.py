"""Training a bundled model from nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evals.training.batches import Batch, Chunks
from evals.training.words import END, NAMES, PAD, ids, save_tokenizer, vocabulary_size
from memp.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

CONTEXT = 4096
"""Positions of a model; demonstrations have up to some 2,000 tokens."""

NOTES = "training.json"
"""The file beside a model that says how it came about."""

UNFINISHED = "unfinished.pt"
"""The file beside a model that is not yet trained to the end."""

FIRST_HELD_OUT = 1_000_000
"""Chunks from this number on are never trained on."""


@dataclass(frozen=True)
class Recipe:
    """All that decides a model, with the code."""

    width: int
    layers: int
    heads: int
    inner: int
    """Width of the feed-forward layers."""

    steps: int
    learning_rate: float
    warm_up: int = 200
    batch_tokens: int = 16_000
    seed: int = 0


RECIPES = {
    "memp-small": Recipe(width=64, layers=4, heads=4, inner=176, steps=4800, learning_rate=5e-3),
    "memp-base": Recipe(width=128, layers=5, heads=4, inner=352, steps=4200, learning_rate=4e-3),
}


@dataclass(frozen=True)
class Point:
    """One point of the training curve."""

    step: int
    tokens: int
    """Trained on so far, without padding."""

    seconds: float
    loss: float
    """Mean over the batches since the last point."""

    held_out: float
    """Share of the answers' tokens that are the most likely ones, on held-out demonstrations."""


class Place(NamedTuple):
    """A batch among all that there are."""

    chunk: int
    number: int


def train(
    recipe: Recipe,
    folder: Path,
    *,
    workers: int = 1,
    every: int = 200,
    tell: Callable[[int, list[Point]], None],
) -> list[Point]:
    """Train a model from nothing and write it to a folder as a standard checkpoint.

    A training that was broken off goes on where its curve ends.

    Args:
        recipe: What to train.
        folder: Where the model goes, as far as it is trained at each point of the curve.
        workers: Processes that make demonstrations.
        every: Steps between two points of the curve.
        tell: Told of every step, with the curve so far.

    Returns:
        The training curve.

    Raises:
        InputError: if a training of another recipe was broken off in the folder.
    """
    training = Training(recipe)
    unfinished = folder / UNFINISHED
    if unfinished.exists():
        training.restore(unfinished)
    held_out = Chunks(recipe.batch_tokens)[FIRST_HELD_OUT]
    for place, batch in _batches(recipe, workers, after=training.place):
        if training.step == recipe.steps:
            break
        training.learn(batch, place)
        if training.step % every == 0 or training.step == recipe.steps:
            training.measure(held_out)
            save(training.model, folder, recipe, training.curve)
            training.keep(unfinished)
        tell(training.step, training.curve)
    unfinished.unlink(missing_ok=True)
    return training.curve


class Training:
    """A model in training, with all that it takes to go on."""

    def __init__(self, recipe: Recipe) -> None:
        """Begin with a model of random weights."""
        import torch
        from torch.optim.lr_scheduler import LambdaLR

        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = new_model(recipe).to(self._device)  # type: ignore[arg-type]
        self._names = _Names(self.model, recipe.seed)
        self._optimizers = _optimizers(self.model, recipe)
        self._schedules = [LambdaLR(each, lambda step: _rate(step, recipe)) for each in self._optimizers]
        self.curve: list[Point] = []
        self.step = 0
        self.place = Place(0, -1)
        self._began = time.monotonic()
        self._tokens = 0
        self._losses: list[float] = []

    def learn(self, batch: Batch, place: Place) -> None:
        """Learn from a batch."""
        import torch

        self._names.draw()
        with _half(self._device):
            loss = _loss(self.model, batch, self._device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        for schedule in self._schedules:
            schedule.step()
        self.model.zero_grad()
        self._losses.append(loss.item())
        self._tokens += int((batch.weights > 0).sum())
        self.step, self.place = self.step + 1, place

    def measure(self, held_out: Sequence[Batch]) -> None:
        """Add a point to the curve; the model then has the names that it keeps."""
        self._names.settle()
        loss = sum(self._losses) / len(self._losses)
        right = accuracy(self.model, held_out)
        self.curve.append(Point(self.step, self._tokens, time.monotonic() - self._began, loss, right))
        self._losses = []

    def keep(self, path: Path) -> None:
        """Write down all that it takes to go on from the last point of the curve."""
        import torch

        kept = {
            "recipe": asdict(self._recipe),
            "curve": [asdict(point) for point in self.curve],
            "place": tuple(self.place),
            "model": self.model.state_dict(),
            "states": [each.state_dict() for each in self._learners()],
        }
        torch.save(kept, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def restore(self, path: Path) -> None:
        """Go on from what was written down.

        Raises:
            InputError: if it is of another recipe.
        """
        import torch

        kept = torch.load(path, map_location=self._device)
        if kept["recipe"] != asdict(self._recipe):
            raise InputError(f"{path} is of a training of another recipe; delete it to begin anew")
        self.curve = [Point(**point) for point in kept["curve"]]
        self.place = Place(*kept["place"])
        self.model.load_state_dict(kept["model"])
        for each, state in zip(self._learners(), kept["states"], strict=True):
            each.load_state_dict(state)
        last = self.curve[-1]
        self.step, self._tokens, self._began = last.step, last.tokens, time.monotonic() - last.seconds

    def _learners(self) -> list[Any]:
        return [*self._optimizers, *self._schedules, self._names]


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """A model with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    (pad,), (end,) = ids([PAD]), ids([END])
    config = LlamaConfig(
        vocab_size=vocabulary_size(),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=recipe.width**-0.5 / 2,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=end,
    )
    return LlamaForCausalLM(config)


def _optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for all else.

    Muon (Jordan et al. 2024; in torch from 2.9) learns more from as many steps. Its updates are scaled like AdamW's,
    so that one rate serves both.
    """
    from torch.optim import AdamW, Muon

    named = dict(model.named_parameters())
    matrices = {name: weights for name, weights in named.items() if ".layers." in name and weights.ndim == 2}
    others = [weights for name, weights in named.items() if name not in matrices]
    return [
        Muon(matrices.values(), lr=recipe.learning_rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def accuracy(model: Any, batches: Sequence[Batch]) -> float:
    """The share of the answers' tokens that the model finds most likely."""
    import torch

    device = model.device.type
    right = asked = 0
    with torch.inference_mode(), _half(device):
        for batch in batches:
            answers = batch.weights >= 1
            found = model(input_ids=batch.read.to(device), use_cache=False).logits.argmax(-1).cpu()
            right += int((found == batch.taught)[answers].sum())
            asked += int(answers.sum())
    return right / asked


def save(model: LlamaForCausalLM, folder: Path, recipe: Recipe, curve: list[Point]) -> None:
    """Write a standard checkpoint with weights in half precision, and how it came about."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    half: Any = deepcopy(model)
    half.to(torch.float16).save_pretrained(folder)
    save_tokenizer(folder, CONTEXT)
    training = {"recipe": asdict(recipe), "curve": [asdict(point) for point in curve]}
    (folder / NOTES).write_text(json.dumps(training, indent=1) + "\n")


class _Names:
    """The vectors of the words in place names: drawn anew for every batch, so that no name can be learned.

    All that a model can tell is whether two names are the same, also of names that it never read.
    """

    def __init__(self, model: LlamaForCausalLM, seed: int) -> None:
        import torch

        self._seed = seed
        self._random = torch.Generator().manual_seed(seed)
        self._embedding: torch.Tensor = model.model.embed_tokens.weight
        self._rows = [torch.tensor(ids(words)) for words in NAMES.values()]
        self._size = 2 * model.config.initializer_range
        width = model.config.hidden_size
        self._kinds = [torch.randn(width, generator=self._random) for _ in self._rows]

    def draw(self) -> None:
        """Give every name another vector; adjectives are told from styles by what theirs share."""
        import torch

        with torch.no_grad():
            for rows, kind in zip(self._rows, self._kinds, strict=True):
                own = torch.randn(len(rows), len(kind), generator=self._random)
                self._embedding[rows] = ((own + kind) * self._size).to(self._embedding.device)

    def state_dict(self) -> dict[str, Any]:
        """What decides the vectors to come."""
        return {"random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Draw on from there."""
        self._random.set_state(state["random"].cpu())

    def settle(self) -> None:
        """Give every name the vector that it keeps in the finished model."""
        state = self._random.get_state()
        self._random.manual_seed(self._seed + 1)
        self.draw()
        self._random.set_state(state)


def _loss(model: Any, batch: Batch, device: str) -> torch.Tensor:
    """The weighted mean of the cross-entropy."""
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=batch.read.to(device), use_cache=False).logits.float()
    each = cross_entropy(logits.flatten(0, 1), batch.taught.to(device).flatten(), reduction="none")
    weights = batch.weights.to(device).flatten()
    return (each * weights).sum() / weights.sum()


def _batches(recipe: Recipe, workers: int, *, after: Place) -> Iterator[tuple[Place, Batch]]:
    """The batches that come after a place, each with its own."""
    from torch.utils.data import DataLoader

    chunks: Any = Chunks(recipe.batch_tokens, first=recipe.seed * 100_000 + after.chunk)
    loader: Any = DataLoader(chunks, batch_size=None, num_workers=workers)
    for chunk, batches in enumerate(loader, after.chunk):
        for number, batch in enumerate(batches):
            if Place(chunk, number) > after:
                yield Place(chunk, number), batch


def _rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a twentieth."""
    if step < recipe.warm_up:
        return (step + 1) / recipe.warm_up
    done = (step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def _half(device: str) -> AbstractContextManager[Any]:
    """Compute in half precision where that is faster."""
    import torch

    if device == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        return nullcontext()
    return torch.autocast(device, torch.bfloat16)
