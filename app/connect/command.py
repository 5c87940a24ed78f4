"""`python -m app connect NAME`: the settings of an editor or agent for the running server, on standard output or, with
--write, in its own file. The command line imports this, so nothing heavy here.
"""

import argparse
import os

from app.errors import UserError
from app.files.user_files import user_path
from app.progress import say

NAMES = ("continue", "zed", "aider", "opencode", "llm", "claude-code")
DEFAULT_URL = "http://127.0.0.1:8000"
OWN_FILE = ""
"""--write without a file: where the client reads it."""


def add_connect_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", choices=NAMES, help="whose settings")
    add("--url", default=DEFAULT_URL, help=f"of the server; left out, {DEFAULT_URL}")
    add("--model", metavar="NAME", help="to be used by default; left out, the first that is served")
    add(
        "--write",
        nargs="?",
        const=OWN_FILE,
        metavar="FILE",
        help="merge them into FILE (left out, where the client reads it), and keep a copy of it as it was",
    )


def connect(arguments: argparse.Namespace) -> None:
    """Print the settings, or merge them into a file. Raises UserError when the server does not answer, or for a file
    that they don't fit into."""
    from app.connect.clients import CLIENTS, NOT_RUN
    from app.connect.served import KEY_VARIABLE, Server
    from app.connect.writing import text_of, write

    server = Server(arguments.url, os.environ.get(KEY_VARIABLE))
    served = server.ask(arguments.model, fills=arguments.name == "continue")
    if arguments.name == "claude-code" and not server.speaks_messages():
        raise UserError(f"the server at {server.url} has no /v1/messages, which Claude Code needs: serve a newer one")
    settings = CLIENTS[arguments.name](served)
    given = arguments.write or settings.file
    if arguments.write is None:
        print(text_of(settings), end="")
        say(f"{settings.title} reads this from {settings.file}; --write merges it in")
    else:
        file = user_path(given)
        written = write(settings, file, is_ours=settings.is_ours and arguments.write == OWN_FILE)
        was = f"; as it was: {written.backup}" if written.backup else ""
        print(f"connect: {'wrote' if written.is_changed else 'nothing to change in'} {written.file}{was}")
        if written.lost_comments:
            say(f"its comments are in {written.backup} alone")
    for step in settings.then:
        say(step.replace(settings.file, given))
    say(f"not run: {settings.title} with this server" if settings.ran == NOT_RUN else f"run: {settings.ran}")
