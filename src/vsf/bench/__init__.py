"""Measurements, each a command that prints its figures beside their bounds and writes them with their rows."""
