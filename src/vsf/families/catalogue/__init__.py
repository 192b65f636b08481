"""What is known about models: presets, pipelines that were run, and models that cannot be guided."""
