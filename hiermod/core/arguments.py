"""Checks of arguments that many functions take: numbers of draws and processes, seeds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hiermod.core.synonyms import refuse_setting
from hiermod.errors import ArgumentError, ArgumentTypeError

LARGEST_SEED = 2**32 - 1  # what every sampler takes


LARGEST_COUNT = 10_000_000  # of draws: more was not meant
LARGEST_FITS = 1_000_000  # of refits: more would not end
LARGEST_CORES = 1_000  # of processes and chains


def check_count(name: str, value: object, least: int = 1, most: int = LARGEST_COUNT) -> int:
    """``value`` as an int.  ArgumentTypeError if it is no whole number, ArgumentError if not between least and most."""
    message = f"{name} must be a whole number of at least {least}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentTypeError(message)
    if value < least:
        raise ArgumentError(message)
    if value > most:
        raise ArgumentError(f"{name} is {value}, and must be at most {most}: so many would not end, nor be kept")
    return int(value)


def check_target_accept(value: float | None) -> None:
    """ArgumentError unless it is None or lies between 0 and 1."""
    if value is not None and not 0 < value < 1:
        raise ArgumentError(f"target_accept is {value!r}; it must lie between 0 and 1, such as 0.9")


def check_settings(settings: Iterable[str], known: Iterable[str] = (), engine: str = "marginal") -> None:
    """Raise ArgumentError for a setting of fit() that goes by another name there, or is not among ``known``."""
    otherwise = (
        f"the {engine} engine, which fits this model, has no further settings. Leave it out; settings of NUTS samplers "
        "go with inference_method='nutpie' or 'pymc'"
    )
    for name in settings:
        refuse_setting(name, tuple(known), otherwise)


def generator(random_seed: int | np.random.Generator | None) -> np.random.Generator:
    """Random numbers from what a person gave as ``random_seed``; a Generator goes on where it stands."""
    if isinstance(random_seed, np.random.Generator):
        return random_seed
    return np.random.default_rng(None if random_seed is None else resolve_seed(random_seed))


def resolve_seed(random_seed: int | np.random.Generator | None) -> int:
    """The seed to use and record: the int given, one drawn from the Generator, or a fresh one."""
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**31 - 1))
    if random_seed is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    if isinstance(random_seed, bool) or not isinstance(random_seed, int | np.integer):
        raise ArgumentTypeError(
            f"random_seed must be None, an int or a numpy Generator, got {random_seed!r:.80} "
            f"({type(random_seed).__name__})"
        )
    if not 0 <= random_seed <= LARGEST_SEED:
        raise ArgumentError(f"random_seed is {random_seed}; it must lie between 0 and 2**32 - 1")
    return int(random_seed)
