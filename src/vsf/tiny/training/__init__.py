"""Train the embedded models on synthetic scenes, from renders to two ordinary diffusers folders."""
