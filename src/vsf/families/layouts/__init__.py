"""Ways in which a denoiser takes up text tokens, where several families share one."""
