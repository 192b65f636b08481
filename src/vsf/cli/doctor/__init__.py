"""`vsf doctor`: check this installation, and tell whether a model can be guided."""
