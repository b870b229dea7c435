"""The bundled language models: their words, what they are taught, and how they are trained."""
