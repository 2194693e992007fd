"""The part of the command line for whoever runs a service.

Rules of residence: the public names of the folder, nothing else.
"""

from .commands import add_commands, run

__all__ = ["add_commands", "run"]
