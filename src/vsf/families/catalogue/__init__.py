"""Facts about models: presets to start from, and models that cannot be guided."""
