"""``python -m changen_cli.cli``: the same as ``changen``, for launchers that want a module."""

from changen_cli.cli.app import main

main()
