"""`python -m memp.cli` is `memp`."""

from memp.cli import main

main()
