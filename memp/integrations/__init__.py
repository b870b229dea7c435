"""Where memp attaches to other software: one module each, imported by those who use it alone."""
