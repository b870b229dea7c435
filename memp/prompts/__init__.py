"""Prompts, one module each: VERSION, TEMPLATE, render(), parse()."""
