"""`vsf doctor`: self-checks of the install, and an inspection of models by their configuration."""
