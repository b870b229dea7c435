"""Text environments: where agents act and memories are measured."""
