"""Checks of arguments that many functions take: numbers of draws and processes, seeds."""

from __future__ import annotations

import numpy as np

from hiermod.errors import ArgumentError, ArgumentTypeError

LARGEST_SEED = 2**32 - 1  # what every sampler takes


def check_count(name: str, value: object, least: int = 1) -> int:
    """``value`` as an int.  ArgumentTypeError if it is no whole number, ArgumentError if it is below ``least``."""
    message = f"{name} must be a whole number of at least {least}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentTypeError(message)
    if value < least:
        raise ArgumentError(message)
    return int(value)


def resolve_seed(random_seed: int | np.random.Generator | None) -> int:
    """The seed to use and record: the int given, one drawn from the Generator, or a fresh one."""
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**31 - 1))
    if random_seed is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    if isinstance(random_seed, bool) or not isinstance(random_seed, int | np.integer):
        raise ArgumentTypeError(
            f"random_seed must be None, an int or a numpy Generator, got {type(random_seed).__name__}"
        )
    if not 0 <= random_seed <= LARGEST_SEED:
        raise ArgumentError(f"random_seed is {random_seed}; it must lie between 0 and 2**32 - 1")
    return int(random_seed)
