"""Runs the command `vsf` for `python -m vsf`."""

from vsf.cli import main

main()
