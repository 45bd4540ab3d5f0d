"""What PyMC, Bambi and nutpie want to say while they work, collected instead of printed.

Their loggers carry handlers of their own that write to stderr; while ``collected()`` is open the records go to the
logger "hiermod" and into a list, and so do warnings.  Handlers and filters are put back on leaving."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger("hiermod")
LOG.addHandler(logging.NullHandler())  # a library stays silent until somebody listens

SPEAKERS = ("pymc", "bambi", "nutpie", "pytensor", "numba", "arviz", "jax", "formulae")
AT_IMPORT = ("pytensor.tensor.blas", "pytensor.configdefaults")  # these speak while their package is being imported

# True, and of no use to the person who fits a model: what is slower, how a package will change
_UNHELPFUL = (
    "BLAS",
    "Loop fusion",
    "g++ not",
    "C++ compiler",
    "deprecat",
    "will be removed",
    "future version",
    "FutureWarning",
)


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.INFO)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        LOG.debug("%s: %s", record.name, text)
        if record.levelno >= logging.WARNING:
            _keep(self.messages, text)


def _keep(messages: list[str], text: str) -> None:
    if text and text not in messages and not any(word in text for word in _UNHELPFUL):
        messages.append(text)


@contextmanager
def _redirected(names: tuple[str, ...], collector: logging.Handler) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.handlers[:] = [collector]
            logger.propagate = False
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers[:] = handlers
            logger.propagate = propagate


@contextmanager
def collected() -> Iterator[list[str]]:
    """Inside, PyMC and its relatives print nothing; yields the list to which their warnings are added as sentences.

    Also imports PyMC and Bambi, before their handlers are moved, so that their set-up is what it is without hiermod."""
    messages: list[str] = []
    collector = _Collector(messages)
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with _redirected(AT_IMPORT, collector):
                import bambi  # noqa: F401
                import pymc  # noqa: F401
            with _redirected(SPEAKERS, collector):
                yield messages
    finally:
        for warning in caught:
            text = " ".join(str(warning.message).split())
            LOG.debug("%s: %s", warning.category.__name__, text)
            if not issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
                _keep(messages, text)
