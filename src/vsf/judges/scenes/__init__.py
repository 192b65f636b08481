"""The judge of the synthetic scenes: it reads a picture, draws what it read, and compares."""
