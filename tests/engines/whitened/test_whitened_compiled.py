"""Machine code of the whitened engine: elementary functions, row functions in it, and the folder it is kept in."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from hiermod.engines.whitened import compiled, elementary
from hiermod.families import elementary as families
from hiermod.families.catalogue import FAMILIES

WIDE = np.concatenate([np.linspace(-700.0, 700.0, 801), np.linspace(-2.0, 2.0, 401), [1e-300, -1e-300]])
POSITIVE = np.concatenate([np.exp(np.linspace(-700.0, 700.0, 801)), np.linspace(0.4, 2.5, 401), [5e-320]])


@pytest.mark.parametrize(
    ("ours", "theirs", "x", "ulps"),
    [
        (elementary.exp, np.exp, WIDE, 2),
        (elementary.log, np.log, POSITIVE, 2),
        (elementary.log1p, np.log1p, np.concatenate([POSITIVE[POSITIVE < 1e300], np.linspace(-0.999, 1.0, 401)]), 3),
        (elementary.expm1, np.expm1, WIDE, 4),
        (elementary.expit, special.expit, WIDE, 4),
    ],
    ids=["exp", "log", "log1p", "expm1", "expit"],
)
def test_elementary_functions_keep_their_digits(ours, theirs, x, ulps):
    found = np.array([ours(float(one)) for one in x])
    np.testing.assert_allclose(found, theirs(x), rtol=ulps * np.finfo(float).eps, atol=1e-308)


def test_elementary_functions_at_the_ends():
    assert elementary.exp(710.0) == elementary.exp(np.inf) == np.inf
    assert elementary.exp(-746.0) == elementary.exp(-np.inf) == 0.0
    assert elementary.log(0.0) == -np.inf
    assert elementary.log(np.inf) == np.inf
    assert np.isnan(elementary.log(-1.0))
    assert elementary.log1p(-1.0) == -np.inf
    assert elementary.logaddexp(0.0, -1e308) == 0.0


@pytest.mark.parametrize("name", ["stirling", "digamma_less_log"])
def test_gamma_functions_agree_with_those_of_arrays(name):
    x = np.exp(np.linspace(-8.0, 20.0, 500))
    found = np.array([getattr(elementary, name)(float(one)) for one in x])
    # absolute: both are parts of a log likelihood, whose other terms are of the order of 1 and more
    np.testing.assert_allclose(found, getattr(families, name)(x), rtol=1e-13, atol=5e-14)


def python_of(function, made=None):
    """A row function of single numbers as machine code has it, in Python."""
    import types

    made = {} if made is None else made
    function = elementary.FAST.get(function, function)
    if isinstance(function, types.FunctionType) and function not in made:
        namespace = {name: value for name, value in compiled._used(function).items()}
        copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
        made[function] = copy
        for name, value in namespace.items():
            calls = callable(value) and not isinstance(value, type)
            copy.__globals__[name] = python_of(value, made) if calls else value
    return made.get(function, function)


ROWS = [(name, link) for name, family in FAMILIES.items() for link in family.rows]


@pytest.mark.parametrize(("family", "link"), ROWS, ids=[f"{a}-{b}" for a, b in ROWS])
def test_what_row_functions_leave_out_does_not_depend_on_parameters(family, link):
    """In machine code ``gammaln`` is 0: of terms of the data alone, or the posterior would be another one."""
    record = FAMILIES[family].rows[link]
    first, rng = python_of(record.first), np.random.default_rng(3)
    low, high = FAMILIES[family].example
    y = 0.4 if family == "beta" else max(low, high)
    n = 3.0 if FAMILIES[family].out_of_trials else 1.0
    left = []
    for _ in range(6):
        eta, a = 0.7 * rng.normal(), tuple(0.5 * rng.normal(size=len(record.auxiliary)))
        value, score, by_a = first(y, n, eta, a)
        expected, expected_score, expected_a = record.first(np.array([y]), n, np.array([eta]), a)
        assert score == pytest.approx(float(np.squeeze(expected_score)), rel=1e-11, abs=1e-12)
        np.testing.assert_allclose(by_a, [float(np.squeeze(one)) for one in expected_a], rtol=1e-10, atol=1e-11)
        left.append(float(np.squeeze(expected)) - value)
    np.testing.assert_allclose(left, left[0], atol=1e-11)


# --- the folder --------------------------------------------------------------------------------------------------


def rows_of(name="binomial_logit"):
    """Compiled anew, whatever this process has already: a second, or 0.1 s from the folder."""
    return compiled.row_loop.__wrapped__(name, FAMILIES["binomial"].rows["logit"].first, 0)


def test_compiled_once_and_announced(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path))
    with caplog.at_level(logging.INFO, logger="hiermod"):
        rows_of()
    assert "compiling rows binomial logit once for this machine, about 3 s (kept in" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="hiermod"):
        again = rows_of()
    assert caplog.text == ""
    assert again.cache_hits == 1
    (folder,) = tmp_path.iterdir()
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".py", ".done"}


def test_a_damaged_file_costs_time_and_no_more(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path))
    rows_of()
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.INFO, logger="hiermod"):
        rows_of()
    assert "could not be kept or read" in caplog.text


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch, caplog):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path))
    with caplog.at_level(logging.INFO, logger="hiermod"):
        rows_of()
    assert "not kept, since no folder for it can be written" in caplog.text


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, logger="hiermod"):
        rows_of()
    assert "not kept, since no folder for it can be written" in caplog.text


def test_two_processes_at_once(tmp_path):
    code = (
        "from hiermod.engines.whitened.compiled import row_loop\n"
        "from hiermod.families.catalogue import FAMILIES\n"
        "print(row_loop('binomial_logit', FAMILIES['binomial'].rows['logit'].first, 0).address > 0)"
    )
    environment = os.environ | {compiled.FOLDER: str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [one.communicate(timeout=120)[0].strip() for one in both] == ["True", "True"]
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "rows_binomial_logit.done",
        "rows_binomial_logit.py",
    ]


def density(y, n, eta, a):
    return helper(eta), helper(eta), ()


def helper(eta):
    return 2.0 * eta


def test_an_edited_helper_has_another_folder(monkeypatch):
    """numba's own cache would take the old machine code: it looks at the file of the function that is compiled."""
    before = compiled._digest((density,))
    assert compiled._digest((density,)) == before
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda eta: 3.0 * eta)
    assert compiled._digest((density,)) != before


def test_where_machine_code_is_kept(monkeypatch):
    monkeypatch.delenv(compiled.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert compiled.folder_of_all() == Path("/somewhere/hiermod/compiled")
    assert compiled.folder_of_all().name == "compiled"


def test_prepare_from_the_command_line(capsys):
    from hiermod.app.cli import main

    assert main(["prepare", "poisson"]) == 0
    told = capsys.readouterr().out
    assert "sampler: " in told
    assert "poisson with link log: " in told
    assert told.splitlines()[-1].startswith("Kept in ")
    assert main(["prepare", "poisson"]) == 0
    assert "poisson with link log: there already" in capsys.readouterr().out
    assert main(["prepare", "poison"]) == 2
    assert "poisson" in capsys.readouterr().err
