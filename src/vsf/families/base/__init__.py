"""The base class of every model family, and what it needs of pipelines, prompts and schedulers."""
