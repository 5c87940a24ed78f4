"""The one exception that a user's mistake raises.

The command line prints its text as one sentence and exits with code 2; everything else is a bug and keeps its
traceback.
"""


class UserError(Exception):
    """A wrong input. The text names the value, the cause and the way out, in one sentence."""
