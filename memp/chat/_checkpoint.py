"""Where a model lies, and how it is loaded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memp._huggingface import silence
from memp.errors import InputError, MissingExtra, ModelError, unknown_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BUNDLED = ("memp-base", "memp-small")
"""The models that come with a checkout of memp."""

MODELS = Path(__file__).parents[2] / "models"
"""Where they lie: beside the package."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def located(model: str) -> Path | str:
    """Return the folder that a model's name means, or else the name, as one on the Hugging Face hub.

    Raises:
        InputError: if the name is empty, or means a folder that is not there or holds no model.
    """
    if not model.strip():
        raise InputError("the model name is empty; write 'local:<folder, name on the hub, or bundled model>'")
    folder = Path(model).expanduser()
    if not folder.is_dir() and re.fullmatch("memp-[^/]*", model):
        if model not in BUNDLED:
            raise unknown_name("bundled model", model, BUNDLED)
        folder = MODELS / model
        if not folder.is_dir():
            raise InputError(
                f"the bundled model {model!r} is not at {str(folder)!r}: bundled models come with a checkout of "
                "memp, not with the installed package; give the path of its folder, 'local:<path>'"
            )
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{str(folder)!r} holds no model: there is no config.json in it; give the folder that "
                "`save_pretrained` wrote model and tokenizer to"
            )
        return folder
    if folder.exists():
        raise InputError(
            f"{model!r} is a file; give the folder that holds it, with config.json and tokenizer"
        )
    if _looks_like_a_path(model):
        raise InputError(
            f"there is no folder {model!r}; give the path of a model's folder, or a name on the hub"
        )
    return model


def _looks_like_a_path(model: str) -> bool:
    """Tell 'runs/best', where there is a folder 'runs', and '../best' from 'Qwen/Qwen3-0.6B' and 'gpt2'."""
    first = Path(model).parts[0]
    return (
        _HUB_ID.fullmatch(model) is None
        or model.startswith((".", "~"))
        or (first != model and Path(first).is_dir())
    )


def load(
    name: str, place: Path | str, *, device: str | None, dtype: str | None
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Load a tokenizer and a model, ready to answer.

    Args:
        name: For messages.
        place: As `located` returned it; the network is asked only for a name on the hub.
        device: As torch calls it; None takes `cuda` where there is one.
        dtype: Of the weights; None takes what they were saved in on a GPU, and float32 elsewhere.

    Raises:
        MissingExtra: if transformers or torch is not installed.
        ModelError: if there is no complete causal language model there.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "local") from error
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("transformers", "local") from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("auto" if device.startswith("cuda") else "float32")
    options: dict[str, Any] = {"local_files_only": isinstance(place, Path)}
    try:
        with silence():
            tokenizer = AutoTokenizer.from_pretrained(os.fspath(place), **options)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                os.fspath(place), dtype=dtype, output_loading_info=True, **options
            )
            model, found = loaded
            model.to(device).eval()
    except Exception as error:  # the hub, the file system and torch raise errors of many kinds
        kind = "the folder" if isinstance(place, Path) else "the hub, there being no folder of that name,"
        raise ModelError(f"{name}: no model could be loaded from {kind} {str(place)!r}: {error}") from error
    if found["missing_keys"]:
        raise ModelError(
            f"{name}: {str(place)!r} is no complete causal language model: it lacks the weights "
            f"{', '.join(sorted(found['missing_keys'])[:3])}, ..."
        )
    return tokenizer, model
