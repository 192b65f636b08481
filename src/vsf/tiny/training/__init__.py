"""Train the embedded models on the synthetic world, from renders to two ordinary diffusers folders."""
