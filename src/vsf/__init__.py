"""Negative prompts that work in few-step image and video models."""

__version__ = "0.1.0"
