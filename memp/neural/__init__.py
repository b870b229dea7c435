"""Neural memory and continual learners, over torch (extra `neural`)."""

from memp.errors import MissingExtra

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingExtra("torch", "neural") from error
