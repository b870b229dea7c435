"""Studies: does procedural memory help, which policy, at what cost."""
