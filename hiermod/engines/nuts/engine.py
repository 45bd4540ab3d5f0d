"""NUTS on the PyMC graph: nutpie by default, or PyMC's own, numpyro and blackjax by name.

The same seed gives the same draws however many cores run; nothing is printed unless a progress bar is wanted."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.core.arguments import (
    LARGEST_CORES,
    LARGEST_COUNT,
    check_count,
    check_settings,
    check_target_accept,
    resolve_seed,
)
from hiermod.core.memory import check_room
from hiermod.core.progress import someone_watches
from hiermod.engines.engine import Method, Sampling, Specification
from hiermod.engines.nuts.interrupts import interruptible
from hiermod.engines.nuts.masked_graph import nutpie_sampler, pymc_sampler
from hiermod.engines.nuts.quiet import collected
from hiermod.engines.posterior import Inference, Posterior, assess, extract
from hiermod.errors import ArgumentError, FitError, UnsupportedError, nearest
from hiermod.formula.design import Design
from hiermod.formula.parts import parts_of

TARGET_ACCEPT = 0.9
COPIES = 4  # of the draws: the sampler's, ArviZ's, Bambi's with its dims in order, and the arrays of the record
COMPILING = ("backend", "gradient_backend", "freeze_model")  # what nutpie's compiler takes, not its sampler


def sample(
    model: Any,
    design: Design,
    sampler: GraphSampler | None = None,
    /,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
    cores: int | None = None,
    target_accept: float | None = None,
    **settings: Any,
) -> Posterior:
    """Draws from the posterior of ``model``, a Bambi model from ``graph.build_bambi`` of this Design.

    sampler: nutpie, unless another is given.  cores: chains that run at the same time (None: as many as there are
    processors).  target_accept: None for 0.9, which near a boundary (a group sd that may be 0) spares most of the
    divergences that 0.8 brings, for a tenth more time.  Further arguments go to the sampler.  An interrupt (Ctrl-C)
    raises KeyboardInterrupt.
    Raises ArgumentError for impossible numbers and for what the sampler does not take."""
    sampler = NUTPIE if sampler is None else sampler
    for name, value, least in (("draws", draws, 4), ("tune", tune, 1), ("chains", chains, 1), ("cores", cores, 1)):
        if not (value is None and name == "cores"):
            check_count(name, value, least, LARGEST_CORES if name in ("chains", "cores") else LARGEST_COUNT)
    check_target_accept(target_accept)
    check_settings(settings, settings)
    seed = resolve_seed(random_seed)
    effects = sum(len(b.levels) * b.size for one in (design, *parts_of(design).values()) for b in one.blocks)
    check_room(
        f"{draws * chains:,} draws of {effects:,} group effects",
        8.0 * COPIES * draws * chains * (effects + len(design.common) + 10),
        "Ask for fewer with draws= and chains=",
        ArgumentError,
    )
    options = {
        "draws": int(draws),
        "tune": int(tune),
        "chains": int(chains),
        "cores": min(int(chains), cores or _processors()),
        "progressbar": bool(progressbar) and someone_watches(),
        "target_accept": TARGET_ACCEPT if target_accept is None else float(target_accept),
    }
    start = time.perf_counter()
    with collected() as messages, calm(sampler):
        names = kept_names(model, design)
        idata = sampler.draw(model.backend.model, names, seed, options, settings, sampler.name)
        idata = _tidy(model, idata, names, design)
        dataset = versions.posterior_dataset(idata)
        if dataset.sizes["draw"] < draws:  # PyMC returns what it has when interrupted
            raise KeyboardInterrupt
        seconds = time.perf_counter() - start
        arrays = extract(dataset, design, _fixed(model, design))
        divergences = _divergences(idata)
        max_r_hat, bulk, tail, words = assess(arrays, design, divergences)
    inference = Inference(
        method=sampler.name,
        reason=sampler.reason,
        seconds=seconds,
        draws=int(draws),
        tune=int(tune),
        chains=int(chains),
        seed=seed,
        divergences=divergences,
        max_r_hat=max_r_hat,
        min_ess_bulk=bulk,
        min_ess_tail=tail,
        messages=(*words, *messages),
    )
    return Posterior(**vars(arrays), inference=inference, idata=idata)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def calm(sampler: GraphSampler) -> Iterator[None]:
    """Settings for the time of sampling only.

    One BLAS thread, since chains are the parallel unit.  No "fast math": with it, numba's results differ in the last
    digit between the first run and those that find its cache, and the same seed gives other draws.  Numba for PyMC's
    own sampler where PyTensor has no C++ compiler."""
    import pytensor

    with ExitStack() as stack:
        if versions.has_package("threadpoolctl"):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        stack.enter_context(pytensor.config.change_flags(numba__fastmath=False))
        if sampler.name == "pymc" and not pytensor.config.cxx:
            stack.enter_context(pytensor.config.change_flags(mode="NUMBA"))
        yield


def kept_names(model: Any, design: Design) -> list[str]:
    """Variables that belong in the posterior, in the tables' order: no helpers, nothing with one value per row."""
    from hiermod.engines.nuts.correlation import HELPER

    graph = model.backend.model
    per_row = set(model.family.likelihood.params) & {variable.name for variable in graph.deterministics}
    there = [variable.name for variable in (*graph.free_RVs, *graph.deterministics)]
    there = [name for name in there if name not in per_row and not name.endswith(HELPER)]
    designs = (design, *parts_of(design).values())
    groups = list(dict.fromkeys(c.variable for one in designs for block in one.blocks for c in block.columns))
    first = [
        *dict.fromkeys(term for one in designs for term in one.common_terms),
        *versions.bambi_constants(model),
        *(f"{name}_sigma" for name in groups),
        *(block.corr_name for one in designs for block in one.correlated_blocks),
    ]
    rest = [name for name in there if name not in first and name not in groups]
    return [name for name in (*first, *rest, *groups) if name in there]


def _compiled(graph: Any, names: list[str], options: dict[str, Any]) -> Any:
    """nutpie's compiled model of a graph, kept with it: compiling takes seconds, a second fit should not.

    It lives as long as the graph does, which is never pickled, and belongs to it: a graph built anew has none."""
    import nutpie

    kept = vars(graph).setdefault("_hiermod_compiled", {})
    key = (tuple(names), tuple(sorted((name, str(value)) for name, value in options.items())))
    if key not in kept:
        kept.clear()  # one at a time: they hold memory
        with interruptible():
            kept[key] = nutpie.compile_pymc_model(graph, var_names=names, **options)
    return kept[key]


def _nutpie(graph: Any, names: list[str], seed: int, options: dict[str, Any], sampler: dict[str, Any], _: str) -> Any:
    import nutpie

    compiled = _compiled(graph, names, {key: sampler.pop(key) for key in COMPILING if key in sampler})
    try:
        running = nutpie.sample(
            compiled,
            draws=options["draws"],
            tune=options["tune"],
            chains=options["chains"],
            cores=options["cores"],
            seed=seed,
            save_warmup=False,
            progress_bar=options["progressbar"],
            target_accept=options["target_accept"],
            blocking=False,  # its own waiting turns an interrupt into a shorter posterior
            **sampler,
        )
    except (TypeError, AttributeError) as error:
        given = ", ".join(sampler) or "its own settings"
        raise ArgumentError(
            f"fit() hands the arguments it does not know on to nutpie, which refused them ({given}): {error}. "
            "Leave out what nutpie.sample does not take"
        ) from error
    try:
        return running.wait()
    except KeyboardInterrupt:
        running.cancel()
        raise
    except RuntimeError as error:
        raise FitError(f"nutpie stopped: {error}. {_START_ADVICE}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what Rust's panics become is no Exception, and has no module
            raise
        told = str(error).splitlines()[0]
        raise FitError(f"nutpie stopped: {told}. {_START_ADVICE}") from error


_START_ADVICE = "Look for huge or tiny columns (rescale them) and for priors far from the data"


def _pymc(graph: Any, names: list[str], seed: int, options: dict[str, Any], sampler: dict[str, Any], _: str) -> Any:
    import pymc as pm

    _refuse_unknown_to_pymc(sampler)
    arguments = {"compute_convergence_checks": False, **options, **sampler}
    try:
        with graph:
            return pm.sample(random_seed=seed, var_names=names, nuts_sampler="pymc", **arguments)
    except (RuntimeError, pm.SamplingError) as error:
        raise FitError(f"PyMC stopped: {error}. {_START_ADVICE}") from error


def _refuse_unknown_to_pymc(settings: dict[str, Any]) -> None:
    """PyMC hands what it does not know on to its step methods, which say nothing of what they do not know."""
    import pymc as pm
    from pymc.step_methods.hmc.base_hmc import BaseHMC

    known = {"nuts"}  # a dict of settings by the name of the step method
    for function in (pm.sample, pm.NUTS.__init__, BaseHMC.__init__):
        known |= set(inspect.signature(function).parameters) - {"self", "kwargs", "pytensor_kwargs"}
    for name in settings:
        if name not in known:
            raise ArgumentError(
                f"fit() hands the arguments it does not know on to PyMC, which has no {name!r}.{nearest(name, known)} "
                "Leave out what pymc.sample and its NUTS do not take"
            )


def _jax(graph: Any, names: list[str], seed: int, options: dict[str, Any], sampler: dict[str, Any], method: str) -> Any:
    from pymc.sampling.jax import sample_jax_nuts

    settings = {key: value for key, value in options.items() if key != "cores"}
    arguments = {"chain_method": "vectorized", "compute_convergence_checks": False, **settings, **sampler}
    try:
        return sample_jax_nuts(random_seed=seed, var_names=names, model=graph, nuts_sampler=method, **arguments)
    except TypeError as error:  # blackjax 1.6 no longer takes what PyMC passes
        raise UnsupportedError(
            f"{method} was given an argument it does not know ({str(error).splitlines()[0]}): one of yours, or this "
            f'version of {method} and PyMC do not fit together. pip install "hiermod[jax]" brings versions that do'
        ) from error


def _tidy(model: Any, idata: Any, names: list[str], design: Design) -> Any:
    """Bambi's clean-up, then only the wanted variables and groups, with the observed response."""
    import xarray as xr

    idata = versions.bambi_clean(model, idata)
    posterior = versions.posterior_dataset(idata)
    posterior = posterior[[name for name in names if name in posterior]]
    graph = model.backend.model
    observed = {}
    for variable in graph.observed_RVs:
        data = _value(graph.rvs_to_values[variable])
        dims = graph.named_vars_to_dims.get(variable.name) or tuple(
            f"{variable.name}_dim_{i}" for i in range(data.ndim)
        )
        name = variable.name
        if design.categories:  # the graph counts from 0, in a column of its own
            name, data = design.response, design.category_values[data.astype(int)].astype(int)
        observed[name] = (tuple(dims), data)
    groups = {"posterior": posterior, "sample_stats": None, "observed_data": xr.Dataset(observed)}
    if "sample_stats" in versions.group_names(idata):
        groups["sample_stats"] = versions.group_dataset(idata, "sample_stats")
    return versions.make_idata({name: dataset for name, dataset in groups.items() if dataset is not None})


def _value(variable: Any) -> np.ndarray:
    """What an observed variable holds, without compiling a function for it where it is a constant or shared."""
    if hasattr(variable, "data"):
        return np.asarray(variable.data)
    return np.asarray(variable.get_value() if hasattr(variable, "get_value") else variable.eval())


def _divergences(idata: Any) -> int:
    if "sample_stats" not in versions.group_names(idata):
        return 0
    stats = versions.group_dataset(idata, "sample_stats")
    return int(np.asarray(stats["diverging"]).sum()) if "diverging" in stats else 0


def _fixed(model: Any, design: Design) -> dict[str, Any]:
    """The response's own parameters -> None (sampled) or the number they are fixed at; known sds leave no sigma."""
    out: dict[str, Any] = {}
    for name, component in versions.bambi_constants(model).items():
        if name == "sigma" and design.precision.sigma_known:
            continue
        out[name] = float(component.prior) if isinstance(component.prior, int | float) else None
    return out


SOFTWARE = ("pandas", "formulae", "arviz", "arviz-stats", "bambi", "pymc", "pytensor", "nutpie", "numba")
TUNE = 1000


@dataclass(frozen=True)
class GraphSampler:
    """One sampler of the PyMC graph as an engine: any family and any prior."""

    name: str
    title: str  # its name in print
    draw: Callable[..., Any]  # graph, names, seed, options, settings, name -> idata
    needs: tuple[str, ...]
    pip_install: str
    gradient: float  # time of one, relative to nutpie's
    why: str = ""  # one takes it
    commas: bool = True  # whether it can label a dim that has a comma in its name
    without_rows: Callable[..., Any] | None = None  # samples the graph without some rows (masked_graph.py), if it can
    cites: Mapping[str, str] = field(default_factory=dict)  # packages in a report, besides Bambi and PyMC
    more_software: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=lambda: {"tune": TUNE})
    hindrance: str = ""
    way_out: str = ": use inference_method='pymc', or make a column of that term first"

    @property
    def reason(self) -> str:
        """As in ``fit.inference.reason``."""
        return f"NUTS on the graph by {self.title}" + (f", {self.why}" if self.why else "")

    @property
    def methods(self) -> tuple[Method, ...]:
        """The one way it draws."""
        sentence = f"The posterior was sampled with the No-U-Turn sampler of {self.title}"
        cited = {"bambi": "Bambi", "pymc": "PyMC", **self.cites}
        return (Method(self.name, f"NUTS by {self.title}", sentence, transitions=True, software=cited),)

    @property
    def software(self) -> tuple[str, ...]:
        """Packages whose versions the draws depend on."""
        return (*SOFTWARE, *self.more_software)

    def obstacle(self, model: Specification) -> str | None:
        """Labels with a comma, where the sampler's conversion to ArviZ's records cannot have them."""
        commas = () if self.commas else tuple(dim for dim in term_dims(model.design) if "," in dim)
        if not commas or not versions.splits_labels_at_commas():
            return None
        return f"{self.title} with this ArviZ cannot label {commas[0]!r}, whose name has a comma"

    def cost(self, model: Specification) -> float:
        """Every parameter and every effect is a coordinate; one more stands for building the graph."""
        return self.gradient * (1 + model.n_effects + model.n_variances)

    def run(self, model: Specification, sampling: Sampling, /, **settings: Any) -> Posterior:
        """As ``sample``, on the model's own graph."""
        graph = model.graph()
        record = sample(graph.model, model.design, self, **vars(sampling), **settings)
        return replace(record, inference=replace(record.inference, group_effects=graph.centring))


def term_dims(design: Design) -> list[str]:
    """Names of the dims that Bambi makes for terms with several columns, and for the levels of factors."""
    found = []
    for one in (design, *parts_of(design).values()):
        labels = zip(one.common_terms, one.common, strict=True)
        found += [f"{term}_dim" for term, label in labels if label != term]
        for block in one.blocks:
            found.append(f"{block.factor}__factor_dim")
            found += [f"{c.variable.split('|')[0]}__expr_dim" for c in block.columns if c.level is not None]
    return list(dict.fromkeys(found))


JAX = 'pip install "hiermod[jax]"'
NUTPIE = GraphSampler(
    "nutpie",
    "nutpie",
    _nutpie,
    needs=("nutpie",),
    pip_install="pip install nutpie",
    gradient=1.0,
    why="the fastest of the samplers that fit any model",
    commas=False,
    without_rows=nutpie_sampler,
    cites={"nutpie": "nutpie"},
)
PYMC = GraphSampler(
    "pymc", "PyMC", _pymc, needs=("pymc",), pip_install="pip install pymc", gradient=2.0, without_rows=pymc_sampler
)
NUMPYRO = GraphSampler(
    "numpyro",
    "NumPyro",
    _jax,
    needs=("jax", "numpyro"),
    pip_install=JAX,
    gradient=3.0,
    more_software=("jax", "jaxlib", "numpyro"),
)
BLACKJAX = GraphSampler(
    "blackjax",
    "BlackJAX",
    _jax,
    needs=("jax", "blackjax"),
    pip_install=JAX,
    gradient=4.0,
    more_software=("jax", "jaxlib", "blackjax"),
)
SAMPLERS = (NUTPIE, PYMC, NUMPYRO, BLACKJAX)


def refitting_sampler(method: str) -> GraphSampler:
    """Which sampler refits without some rows a model that ``method`` was fitted by: the same, where it can."""
    able = [one for one in SAMPLERS if one.without_rows is not None]
    return next((one for one in able if one.name == method), able[0])
