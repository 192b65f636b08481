"""`python -m vsf` is the command `vsf`."""

from vsf.cli import main

main()
