"""The part of the command line for whoever runs a service.

Rules of residence: the public names of the folder, nothing else.
"""

from .commands import add_commands, run
from .conversations import add_conversations, run_conversations

__all__ = ["add_commands", "add_conversations", "run", "run_conversations"]
