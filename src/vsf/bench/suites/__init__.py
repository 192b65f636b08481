"""Suites of prompt pairs: the shipped ones, reading them, and writing new ones."""
