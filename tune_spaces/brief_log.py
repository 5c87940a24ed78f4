"""Tune's log, with a line for each failure instead of its traceback: what ends an experiment is told at its end, and
the tracebacks of trials lie in their folders (`error.txt`)."""

import logging

from app.errors import causes, first_line

WHERE = ("ray.tune.execution.tune_controller", "ray.tune.execution.experiment_state")


class _Brief(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], Exception):
            *_, bottom = causes(record.exc_info[1])
            told = first_line(bottom) if isinstance(bottom, Exception) else type(bottom).__name__
            record.msg, record.args = f"{record.getMessage().strip()} ({type(bottom).__name__}: {told})", ()
            record.exc_info = record.exc_text = None
        return True


_BRIEF = _Brief()


def shorten() -> None:
    for name in WHERE:
        logging.getLogger(name).addFilter(_BRIEF)
