"""Prompts and negative prompts: as text, as tokens with weights, as embeddings."""
