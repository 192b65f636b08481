"""The `vsf bench` commands, their options, and how options become objects of the benchmark."""
