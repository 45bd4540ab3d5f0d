"""Attacks by formula: text from a file, or from another person, never reaches more than the functions of the list.

Every attack would leave a mark: a file, a call counted, an exit.  Nothing may be evaluated before all is checked."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import damages
import h5py
import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made

import hiermod as hm
from hiermod.errors import ArgumentError, FileError, FormulaError, HiermodError, UnsupportedError
from hiermod.formula.bambi_text import check_for_bambi
from hiermod.formula.build import build_design
from hiermod.formula.evaluate import Evaluator
from hiermod.formula.functions import FUNCTIONS, find_function
from hiermod.formula.language import describe
from hiermod.priors.distributions import Distribution

SLEEP = hm.load_dataset("sleepstudy")
FEW = SLEEP.head(40)
CALLS: list[str] = []  # what an attack reached


def caught(*values: Any) -> Any:
    """A function that no formula should reach."""
    CALLS.append(repr(values)[:80])
    return values[0] if values else 0


secret = np.arange(180.0)

# What each would do: run a command, write or read a file, leave Python, reach inside an object, hang, fill memory.
ATTACKS = [
    "I(Days + np.f2py.os.system('touch {mark}'))",
    "np.savetxt('{mark}', Days)",
    "np.save('{mark}', Days)",
    "np.f2py.sys.exit(3)",
    "np.f2py.subprocess.run('touch {mark}')",
    "np.lib.npyio.save('{mark}', Days)",
    "np.load('{mark}', allow_pickle=True)",
    "np.fromfile('/etc/passwd')",
    "np.loadtxt('/etc/passwd')",
    "np.memmap('{mark}', mode='w+', shape=3)",
    "np.frompyfunc(caught, 1, 1)",
    "np.vectorize(caught)(Days)",
    "np.apply_along_axis(caught, 0, Days)",
    "np.fromiter(Days)",
    "np.log.at(Days, 0)",
    "np.add.reduce(Days)",
    "np.log.__class__(Days)",
    "np.__init__(Days)",
    "np.__class__.__base__.__subclasses__()",
    "np.random.seed(1)",
    "np.setbufsize(16)",
    "np.seterr('ignore')",
    "np.log(Days, Days)",
    "np.log(Days, out=Days)",
    "np.add(Days, Days, Days)",
    "np.mean(Days, 0, None, Days)",
    "np.clip(Days, 0, 1, Days)",
    "np.where(Days, Days, Days, Days)",
    "numpy.log(Days)",
    "os.system('touch {mark}')",
    "sys.exit(3)",
    "__import__('os')",
    "eval('1')",
    "exec('1')",
    "open('{mark}')",
    "getattr(Days, 'name')",
    "I(caught(Days))",
    "caught(Days)",
    "I(secret)",
    "I(secret + Days)",
    "I(`secret`)",
    "I(__builtins__)",
    "I(`__builtins__`)",
    "I(`_given`)",
    "bambi.Model(Days)",
    "design.evaluator.new_common(Days)",
    "arguments.clear()",
    "pd.read_pickle('{mark}')",
    "Days.to_pickle('{mark}')",
    "Days.to_csv('{mark}')",
    "Days.values.tofile('{mark}')",
    "Days.__class__(Days)",
    "`Days`.to_csv('{mark}')",
    "I(Days).to_csv('{mark}')",
    "I(Days)(Days)",
    "(I)(Days)",
    "'a'.format(Days)",
    "I('a' * 1000000000)",
    "I(('a' + 'b') * 1000000000)",
    "I(Days * 0 ** (9 ** (9 ** 9)))",
    "I(Days + 9 ** (9 ** 9))",
    "poly(Days, 1000000000)",
    "bs(Days, df=1000000000)",
    "lambda x: x",
    "[x for x in Days]",
    "Days[0]",
    "I(Days[0])",
    "I(Days := 1)",
    "I(Days; Days)",
    "{{__import__('os')}}",
    "C(Days, caught)",
    "C(Days, levels=caught)",
    "C(Days, np.f2py.os.system)",
    "T(Days, ref=caught(1))",
    "offset(caught(Days))",
    "scale(caught(Days))",
    "hsgp(Days, m=10, c=2)",
    "weighted(Days, Days)",
    "Treatment.__init__(Days)",
    "Treatment.code_with_intercept(Days)",
    "log.at(Days, 0)",
    "as.__class__(Days)",
    "factor.__globals__(Days)",
    "I.__globals__(Days)",
]
WHERE = {
    "common": "Reaction ~ {} + (1 | Subject)",
    "left of a bar": "Reaction ~ Days + ({} | Subject)",
    "right of a bar": "Reaction ~ Days + (1 | {})",
    "interaction": "Reaction ~ Days:{}",
    "response": "{} ~ Days",
    "counts": "p({}, Days) ~ Subject",
    "likelihood": "weighted(Reaction, {}) ~ Days",
}


def attempt(attack: str, folder: Path) -> str:
    return attack.format(mark=folder / "mark")


@pytest.fixture(autouse=True)
def nothing_happened(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """No mark, no call, no word on the terminal, no change of the data or of numpy's settings."""
    CALLS.clear()
    before, settings = SLEEP.copy(), np.geterr()
    yield
    assert not (tmp_path / "mark").exists()
    assert CALLS == []
    assert np.geterr() == settings
    pd.testing.assert_frame_equal(SLEEP, before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_refuses(attack: str, tmp_path: Path) -> None:
    for place, formula in WHERE.items():
        if "weighted" in attack and place == "response":
            continue  # a likelihood is one there
        family = "binomial" if place == "counts" else "gaussian"
        with pytest.raises(HiermodError):
            build_design(formula.format(attempt(attack, tmp_path)), FEW, family=family)
    with pytest.raises(HiermodError):
        hm.Model("Reaction ~ Days", FEW, parameters={"sigma": attempt(attack, tmp_path)})


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_evaluates_refuses_by_itself(attack: str, tmp_path: Path) -> None:
    """A file holds the parts of a formula and the text for Bambi: neither is trusted to be what the formula says."""
    frame = build_design("Reaction ~ Days + (1 | Subject)", FEW).frame
    text = attempt(attack, tmp_path)
    for common, lefts in ((text, ("1",)), ("Days", (text,))):
        with pytest.raises(HiermodError):
            Evaluator(common, lefts, frame, None)
    bad = {"common": text, "lefts": ("1",), "frame": frame, "extra_namespace": {}}
    for state in (bad, bad | {"as_in_r": True, "keep_intercept": False}):
        with pytest.raises(HiermodError):
            Evaluator.__new__(Evaluator).__setstate__(state)
    if "weighted" in attack or "** (9" in attack or ("1000000000" in attack and "'a'" not in attack):
        return  # allowed, or judged when it is evaluated, which for Bambi is after hiermod has
    for formula in (f"Reaction ~ {text}", f"Reaction ~ 1 + ({text}|Subject)", f"{text} ~ Days"):
        with pytest.raises(HiermodError):
            check_for_bambi(formula, frame.columns, None)


# --- names of the person's own -------------------------------------------------------------------------------------


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


def test_a_module_is_walked_to_what_it_defines_and_no_further() -> None:
    import scipy.special as sp

    def own(x: Any) -> Any:
        return 2 * x

    own.__module__ = "mine.sub"
    sub = module("mine.sub", own=own, os=os, np=np)
    mine = module("mine", sub=sub, own=own, os=os, system=os.system, Popen=subprocess.Popen, np=np, _own=own)
    names = {"mine": mine, "sp": sp, "np": np, "numbers": np, "os_of_mine": mine}
    design = build_design("Reaction ~ sp.expit(Days) + mine.own(Days) + mine.sub.own(Days) + numbers.sqrt(Days)", SLEEP,
                          extra_namespace=names)  # fmt: skip
    np.testing.assert_allclose(design.X[:, 1], 1 / (1 + np.exp(-SLEEP["Days"])), rtol=1e-12)
    np.testing.assert_array_equal(design.X[:, 2], 2 * SLEEP["Days"])
    for path in (
        "mine.os.system", "mine.system", "mine.Popen", "mine.np.savetxt", "mine.sub.os.system", "mine.sub.np.save",
        "mine._own", "mine.own.__globals__", "mine.__loader__", "mine.own.__call__", "mine.nothing", "mine.sub",
        "sp.expit.at", "sp.np.save", "np.savetxt", "np.f2py.os.system", "numbers.save", "numbers.lib.npyio.save", "np",
        "sp.", "sp..expit", "mine.sub.",
    ):  # fmt: skip
        assert find_function(path, names) is None, path
        with pytest.raises(HiermodError):
            build_design(f"Reaction ~ {path}(Days)", SLEEP, extra_namespace=names)


def test_an_object_is_not_walked() -> None:
    names = {"table": pd.DataFrame({"a": [1.0]}), "own": lambda x: x, "caught": [caught]}
    for path in ("table.to_csv", "table.a", "own.__globals__", "own.__code__", "caught.pop", "table"):
        with pytest.raises(HiermodError):
            build_design(f"Reaction ~ {path}(Days)", SLEEP, extra_namespace=names)


def test_a_name_of_the_formulas_own_is_not_silently_another() -> None:
    with pytest.raises(ArgumentError, match="give yours another name"):
        build_design("Reaction ~ scale(Days)", SLEEP, extra_namespace={"scale": lambda x: 3 * x})
    design = build_design("Reaction ~ log(Days)", SLEEP, extra_namespace={"log": lambda x: 3 * x, "scale": len})
    np.testing.assert_array_equal(design.X[:, 1], 3 * SLEEP["Days"])


def test_the_list_writes_nowhere() -> None:
    """No function of the list takes a place to write to, and each is numpy's or formulae's."""
    for name, function in FUNCTIONS.items():
        assert function.most is not None, name
        assert not {"out", "file", "fname", "where", "dtype", "casting"} & set(function.names), name
        if isinstance(function.call, np.ufunc):
            assert (function.least, function.most) == (function.call.nin, function.call.nin), name
        else:
            assert function.call.__module__.split(".")[0] in ("numpy", "formulae"), name
    forbidden = (
        "save",
        "load",
        "file",
        "mem",
        "from",
        "vector",
        "apply",
        "piece",
        "set",
        "err",
        "print",
        "buffer",
        "lib",
    )
    assert [name for name in FUNCTIONS if name != "offset" and any(word in name for word in forbidden)] == []


def test_what_formulas_may_call_still_works() -> None:
    d = SLEEP.assign(x=np.linspace(0.1, 2, 180), b=SLEEP["Days"] > 4, f=SLEEP["Days"].mod(3).astype(str))
    x, days = d["x"].to_numpy(), d["Days"].to_numpy(float)
    for text, values in {
        "np.where(x > 1, 1, 0.5)": np.where(x > 1, 1, 0.5),
        "np.clip(x, 0.5, 1)": np.clip(x, 0.5, 1),
        "I(x - np.mean(x))": x - x.mean(),
        "I(x / np.std(x, ddof=1))": x / x.std(ddof=1),
        "np.power(x, Days)": x**days,
        "np.isin(f, '1') * 2": None,
        "np.maximum(x, 1)": np.maximum(x, 1),
        "I(np.log1p(x) * 10**2)": 100 * np.log1p(x),
        "I(b * 2)": 2.0 * d["b"],
        "I((x > 1) + (x > 0.5))": (x > 1) + 0.0 + (x > 0.5),
        "np.round(x, decimals=1)": np.round(x, 1),
        "np.digitize(x, cuts)": np.digitize(x, [0.5, 1]),
        "exp2(x)": 2**x,
    }.items():
        if values is not None:
            design = build_design(f"Reaction ~ 0 + {text}", d, extra_namespace={"cuts": [0.5, 1]})
            np.testing.assert_allclose(design.X[:, 0], values, rtol=1e-12, err_msg=text)


# --- files ---------------------------------------------------------------------------------------------------------


LONG = "I(Days + 1" + " + 0" * 60 + ")"  # room for an attack in its place


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    model = hm.Model(f"Reaction ~ {LONG} + (1 | Subject)", FEW)
    return {
        "reml": model.reml().save(folder / "reml.nc"),
        "bayes": hand_made(model, draws=20).save(folder / "bayes.nc"),
    }


def text_in(path: Path) -> str:
    with h5py.File(path) as file:
        return bytes(file["hiermod/fit"][:]).decode()


def forged(source: Path, to: Path, change: Any) -> Path:
    """The file with its text changed and everything, checksum too, made to agree."""
    text = change(text_in(source)).encode()
    to.write_bytes(damages.forged(source.read_bytes(), lambda _: text))
    return to


def test_a_forged_file_is_read_as_a_good_one(good: dict[str, Path], tmp_path: Path) -> None:
    """Otherwise the attacks below would be refused for another reason."""
    for path in good.values():
        found = hm.load(forged(path, tmp_path / path.name, lambda text: text))
        assert found.fixef().equals(hm.load(path).fixef())


@pytest.mark.parametrize("kind", ["reml", "bayes"])
@pytest.mark.parametrize(
    "attack",
    [
        "np.f2py.os.system('touch {mark}')",
        "np.savetxt('{mark}', Days)",
        "np.f2py.sys.exit(3)",
        "os.system('touch {mark}')",
        "caught(Days)",
        "I(`secret`)",
        "np.log.__class__(Days)",
    ],
)
def test_a_file_does_not_run(kind: str, attack: str, good: dict[str, Path], tmp_path: Path) -> None:
    """In the formula, its common part, the text for Bambi, each alone and all together."""
    text = json.dumps(attempt(attack, tmp_path))[1:-1]
    bambi = f"Reaction ~ {LONG} + (1|Subject)"
    tried = [
        lambda t: t.replace(LONG, text),
        lambda t: t.replace(f'["common", "{LONG}"]', f'["common", "{text}"]'),
        lambda t: t.replace(bambi, f"Reaction ~ {text} + (1|Subject)"),
        lambda t: t.replace(bambi, f"Reaction ~ Days + ({text}|Subject)"),
        lambda t: t.replace(bambi, f"{text} ~ Days + (1|Subject)"),
    ]
    for i, change in enumerate(tried if kind == "reml" else tried[:3]):
        assert change(text_in(good[kind])) != text_in(good[kind])
        with pytest.raises(FileError):
            hm.load(forged(good[kind], tmp_path / f"bad{i}.nc", change))


def test_modules_handed_over_while_loading_open_nothing_else(good: dict[str, Path], tmp_path: Path) -> None:
    for attack in ("np.savetxt('{mark}', Days)", "np.f2py.os.system('touch {mark}')", "sp.np.save('{mark}', Days)"):
        import scipy.special as sp

        text = json.dumps(attempt(attack, tmp_path))[1:-1]
        path = forged(good["reml"], tmp_path / "bad.nc", lambda t, text=text: t.replace(LONG, text))
        with pytest.raises(FileError):
            hm.load(path, extra_namespace={"np": np, "sp": sp})


def test_a_file_sets_no_other_attribute_of_the_evaluator(good: dict[str, Path], tmp_path: Path) -> None:
    def change(text: str) -> str:
        short = text.replace(LONG, "I(Days + 1)")
        return short.replace('["common", "', '["new_common", 3], ["_models", []], ["common", "')

    fit = hm.load(forged(good["reml"], tmp_path / "bad.nc", change))
    assert fit.predict(SLEEP.head(2)).notna().all(axis=None)


def test_a_prior_from_a_file_is_a_distribution() -> None:
    for name in ("sample", "model_to_graphviz", "__builtins__", "nothing", "Model", "math"):
        with pytest.raises(UnsupportedError, match="no distribution of PyMC's"):
            Distribution(name, (("x", 1.0),)).to_bambi()


# --- the graph -----------------------------------------------------------------------------------------------------


def test_bambi_sees_the_formulas_functions_and_nothing_else() -> None:
    """Bambi captures the frame that calls it: its functions and variables are looked up before those given."""
    d = SLEEP.assign(x=np.linspace(0.1, 2, 180))

    def own(x: Any) -> Any:
        return x + 1

    # names that code between here and Bambi uses for something else; formulae takes those before what it is given
    names = {name: own for name in ("design", "formula", "further", "picture", "sum_of", "UnsupportedError", "data")}
    for name in names:
        m = hm.Model(f"Reaction ~ {name}(x)", d, extra_namespace=names)
        assert name in str(m.bambi)
    m = hm.Model("Reaction ~ np.log(x) + as.factor(Days) + own(x)", d, extra_namespace={"own": own, "np": np})
    from hiermod.core import versions

    term = versions.bambi_parent(m.bambi).common_terms["own(x)"].term
    seen = term.components[0].env.namespace
    for name in ("os", "sys", "bambi", "design", "arguments", "further", "caught", "secret", "extra_namespace"):
        assert name not in seen, name
    assert vars(seen["np"]).keys() == {"log"}


def test_a_design_with_another_formula_for_bambi_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from hiermod.engines.nuts.graph import build_bambi

    design = build_design("Reaction ~ Days + (1 | Subject)", SLEEP)
    mark = tmp_path / "mark"
    for text in (
        f"Reaction ~ np.f2py.os.system('touch {mark}') + (1|Subject)",
        f"Reaction ~ Days + (np.savetxt('{mark}', Days)|Subject)",
        f"np.savetxt('{mark}', Days) ~ Days + (1|Subject)",
        "Reaction ~ bambi.Model(Days) + (1|Subject)",
        "Reaction ~ Days + (1|caught(Subject))",
    ):
        with pytest.raises(HiermodError):
            build_bambi(replace(design, bambi_formula=text))


def test_the_command_line_refuses(tmp_path: Path) -> None:
    SLEEP.to_csv(tmp_path / "d.csv", index=False)
    call = [
        sys.executable,
        "-m",
        "hiermod.app.cli",
        "fit",
        f"Reaction ~ np.savetxt('{tmp_path / 'mark'}', Days)",
        "d.csv",
    ]
    ran = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env=os.environ, check=False)
    assert ran.returncode != 0
    assert "no such function is known" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_evaluator_survives_pickling_and_checks_again() -> None:
    design = build_design("Reaction ~ I(Days > 3) + Days:I(Days > 5)", SLEEP)
    again = pickle.loads(pickle.dumps(design.evaluator))
    np.testing.assert_array_equal(again.new_common(design.frame)[0], design.X)


# --- time, memory and the end of Python ----------------------------------------------------------------------------

SUM = " + ".join(f"x{i}" for i in range(26))
COSTLY = {
    "y ~ I(x * " + "1" * 20_000 + ")": "does not parse",
    f"y ~ ({SUM})**26": "more than 1,000 terms",
    "y ~ (x + z)**1000000": "more than 1,000 terms",
    "y ~ " + SUM.replace("+", "*"): "more than 1,000 terms",
    f"y ~ ({SUM}):({SUM}):({SUM})": "more than 1,000 terms",
    f"y ~ x + ({SUM.replace('+', '*')} | g)": "more than 1,000 terms",
    "y ~ (1 | " + ":".join(["(g + h)"] * 25) + ")": "more than 1,000 grouping factors",
    "y ~ x + (1 | " + "(" * 5_000 + "g" + ")" * 5_000 + ")": "41 deep",
    "y ~ " + "I(" * 5_000 + "x" + ")" * 5_000: "41 deep",
}


@pytest.mark.parametrize("formula", COSTLY, ids=lambda formula: formula[:12])
def test_a_short_text_does_not_take_for_ever(formula: str) -> None:
    data = pd.DataFrame(np.ones((4, 26)), columns=[f"x{i}" for i in range(26)]).assign(
        y=1.0, x=2.0, z=3.0, g="a", h="b"
    )
    started = time.process_time()
    with pytest.raises(FormulaError, match=COSTLY[formula]):
        build_design(formula, data)
    assert time.process_time() - started < 2


def test_terms_are_counted_behind_parentheses_and_signs() -> None:
    """A file brings parts of a formula that no check of the formula has seen."""
    for text in (
        f"({SUM})**(26)",
        f"({SUM})**+26",
        f"+(({SUM})**(((26))))",
        "(a * b) * (" + SUM.replace("+", "*") + ")",
    ):
        with pytest.raises(FormulaError, match="more than 1,000 terms"):
            describe(text)
    assert len(describe(f"({SUM})**2").common_terms) == 1 + 26 + 26 * 25 // 2


@pytest.mark.parametrize(
    "call", ["bs(Days, df=38, degree=37)", "bs(Days, 30, None, 20)", "bs(Days, df=9, degree=3 * 2)"]
)
def test_splines_of_a_degree_that_would_end_python(call: str) -> None:
    with pytest.raises(FormulaError, match="degrees up to 5"):
        build_design(f"Reaction ~ {call}", FEW)
    assert build_design("Reaction ~ bs(Days, df=9, degree=5)", FEW).X.shape == (40, 10)
