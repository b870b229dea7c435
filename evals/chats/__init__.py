"""Chat models as a study needs them: counted, guarded by a budget, and remembered."""
