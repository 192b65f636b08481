"""Ways in which pipelines turn a prompt into text embeddings, where several families share one."""
