"""Ways in which pipelines turn a prompt into text embeddings."""
