"""`python -m peerkv` is `peerkv`."""

from peerkv.cli import main

main()
