"""Judges: models that look at an image and answer questions about it."""

from vsf.judges.base import Question, Verdict

__all__ = ["Question", "Verdict"]
