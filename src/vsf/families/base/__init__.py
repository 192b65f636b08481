"""The base class of every model family, and the parts of it that concern pipelines, prompts and schedulers."""
