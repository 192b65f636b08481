"""Guidance of diffusers pipelines: a session on a pipeline, a run for each of its calls."""
