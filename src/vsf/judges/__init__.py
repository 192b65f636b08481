"""Judges: what each sees in an image, and how it answers a question about it."""

from vsf.judges.base import Question, Verdict

__all__ = ["Question", "Verdict"]
