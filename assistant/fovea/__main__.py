"""`python -m fovea`: the same as the command `fovea`."""

from fovea.cli import main

main()
