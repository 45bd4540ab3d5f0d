"""``Model.fit(cache=folder)``: a fit is read from the folder if nothing it depends on has changed, else made and kept.

What it depends on goes into the file's name as a SHA-256: data, formula, family, priors, settings, seed, and versions
of the packages that compute it.  Files are those of ``fit.save``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod.core.arguments import resolve_seed
from hiermod.core.files import file_path
from hiermod.engines.catalogue import choose
from hiermod.engines.engine import Engine
from hiermod.errors import (
    ArgumentTypeError,
    ConvergenceWarning,
    FileError,
    HiermodError,
    UnknownNameError,
    UnsupportedError,
    warn,
)
from hiermod.fits.bayesian import BayesianFit
from hiermod.output.storage.fingerprint import content_fingerprint, design_fingerprint, package_versions
from hiermod.output.storage.origins import origin_of, plain_priors
from hiermod.output.storage.storage import read, save

if TYPE_CHECKING:
    from hiermod.model import Model

log = logging.getLogger("hiermod.cache")
BEHIND_EVERY = ("hiermod", "numpy", "scipy")


def cached_fit(
    model: Model,
    cache: str | os.PathLike[str],
    random_seed: int | np.random.Generator | None,
    settings: Mapping[str, Any],
    **unimportant: Any,
) -> BayesianFit:
    """The fit from the folder, or a new one that is then kept there.

    settings: arguments of ``Model.fit`` that the draws depend on; ``unimportant``: the others.  A Generator gives the
    seed it would give without a cache; with None any fit that was made with None will do.  A file that cannot be read
    is replaced, and a folder that cannot be written costs the cache, not the fit; both are logged as warnings."""
    folder = _folder(cache)
    seed = resolve_seed(random_seed) if isinstance(random_seed, np.random.Generator) else random_seed
    again = {**settings, **unimportant, "random_seed": seed}
    try:
        key = cache_key(model, seed, settings)
    except UnsupportedError as error:
        log.warning("not cached: %s", error)
        return model.fit(**again)
    path = folder / f"fit-{key[:40]}.nc"
    found = _found(model, path, key)
    if found is not None:
        log.info("%s read from %s", model, path)
        if found.inference.messages:  # as when it was made
            warn(" ".join(found.inference.messages), ConvergenceWarning)
        return found
    fit = model.fit(**again)
    fit.origin = replace(origin_of(fit), key=key)
    try:
        save(fit, path)
    except HiermodError as error:
        log.warning("the fit is made but not kept: %s", error)
    else:
        log.info("%s kept in %s", model, path)
    return fit


def cache_key(model: Model, seed: int | None, settings: Mapping[str, Any]) -> str:
    """SHA-256 of everything the draws depend on.  UnsupportedError where that cannot be told: a prior, or an argument
    of the sampler, that is a function or another object."""
    priors = plain_priors(model._priors)
    if priors is None:
        raise UnsupportedError("a prior is made by a function, and whether a function has changed cannot be told")
    engine = choose(settings["inference_method"], model._specification()).engine
    own = {name: value for name, value in engine.defaults.items() if settings.get(name) is None}
    try:
        told = json.dumps({**settings, **own, "seed": None if seed is None else int(seed)}, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"an argument of fit() cannot be told from another ({error})") from error
    pieces = {
        "design": design_fingerprint(model.spec),
        "family": f"{model.family} {model.link}",
        "priors": repr((sorted(priors.given.items()), sorted(priors.eta.items()))),
        "how": f"{model.center_predictors} {model.noncentered}",
        "settings": told,
        "versions": json.dumps(_versions_behind(engine)),
    }
    return content_fingerprint(pieces.items())


def _versions_behind(engine: Engine) -> dict[str, str]:
    """The packages that compute this fit; python's own version changes no draw."""
    found = package_versions((*BEHIND_EVERY, *engine.software))
    return {name: number for name, number in found.items() if name != "python"}


def _folder(cache: Any) -> Path:
    """The folder, made if it is not there."""
    if not isinstance(cache, str | os.PathLike):
        raise ArgumentTypeError(f"cache must be the path of a folder, got {type(cache).__name__}")
    folder = file_path(cache, "cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cache={str(cache)!r} is no folder and none can be made there: {error.strerror}") from error
    return folder


def _found(model: Model, path: Path, key: str) -> BayesianFit | None:
    """The fit in the file as a fit of ``model``; None where there is no file, or it is not what its name says."""
    if not path.exists():
        return None
    try:
        fit = read(path, model.extra_namespace)
    except (FileError, UnknownNameError) as error:
        log.warning("the model is fitted again: %s", error)
        return None
    if not isinstance(fit, BayesianFit) or fit.origin is None or fit.origin.key != key:
        log.warning("the model is fitted again: %s holds another fit than its name says", path)
        return None
    how = fit.inference
    record = replace(fit.record, inference=replace(how, reason=f"{how.reason}; read from the cache, {path}"))
    again = BayesianFit(model.spec, record, model.family, model.link, fit.priors, model)
    again.origin = fit.origin
    return again
