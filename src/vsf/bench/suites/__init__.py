"""Suites: pairs of a prompt and a negative prompt, with the questions that a judge is asked about the image."""
