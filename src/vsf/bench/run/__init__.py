"""A benchmark run: draw images, store rows, ask for verdicts, estimate the remaining work."""
