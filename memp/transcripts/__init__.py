"""Transcripts that exist already, read as trajectories: one module for the common form, one for each kind."""
