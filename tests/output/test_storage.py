"""fit.save and hm.load: the same fit comes back, or an error that says what is wrong with the file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hand_made import hand_made

import hiermod as hm
from hiermod.core import versions
from hiermod.errors import ArgumentTypeError, FileError, UnknownNameError, UnsupportedError
from hiermod.output.storage import container, storage
from hiermod.output.storage.container import Packed, describe, pack
from hiermod.output.storage.stored_values import Reader, Writer

STORED = Path(__file__).parents[1] / "stored"
SEALED = len(container.SEAL) + 65  # bytes of the seal at the end of a file


def same(a: Any, b: Any) -> None:
    """Two fits give the same tables to the last bit."""
    for table in ("fixef", "ranef", "coef", "varcorr", "vcov", "tidy", "parameters"):
        if table in ("coef",) and not a.design.blocks:
            continue
        pd.testing.assert_frame_equal(getattr(a, table)(), getattr(b, table)(), check_exact=True)
    for column in ("fitted", "residuals"):
        pd.testing.assert_series_equal(getattr(a, column)(), getattr(b, column)(), check_exact=True)
    assert str(a.summary()) == str(b.summary())
    assert str(a.check()) == str(b.check())
    assert (a.formula, a.family, a.nobs, a.ngroups) == (b.formula, b.family, b.nobs, b.ngroups)
    pd.testing.assert_frame_equal(a.design.frame, b.design.frame)


def again(fit: Any, folder: Path, **how: Any) -> Any:
    return hm.load(fit.save(folder / "fit.nc"), **how)


def odd_data() -> pd.DataFrame:
    """Names and levels beyond ASCII, a column of dates no model uses, booleans, an offset, weights."""
    rng = np.random.default_rng(4)
    n = 60
    return pd.DataFrame(
        {
            "größe": rng.normal(size=n),
            "dose": np.tile([0.0, 1, 2, 3], 15),
            "Gerät": pd.Categorical(np.repeat(["b|ä", "a/ü", "ç ñ"], 20), categories=["ç ñ", "b|ä", "a/ü", "nie"]),
            "école": np.repeat([f"№{i}" for i in range(10)], 6),
            "klass": np.tile(["p", "q"], 30),
            "ja": rng.random(n) < 0.5,
            "n": rng.integers(5, 9, n),
            "k": rng.integers(0, 5, n),
            "w": rng.uniform(0.5, 2, n),
            "when": pd.date_range("2020-01-01", periods=n),
        }
    )


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "lm": ("größe ~ dose * Gerät", {}, "reml"),
    "lm by ml": ("größe ~ dose", {}, "ml"),
    "reml": ("größe ~ dose + Gerät + (dose | école)", {}, "reml"),
    "ml": ("größe ~ dose + (1 | école)", {}, "ml"),
    "double bar, factor": ("größe ~ dose + (klass || école)", {}, "reml"),
    "crossed and nested": ("größe ~ 1 + (1 | école/klass) + (1 | dose)", {}, "reml"),
    "a transformation learned from data": ("größe ~ scale(dose) + poly(n, 2) + (1 | école)", {}, "reml"),
    "slash": ("größe ~ I(dose / 2) + (I(dose / 2) | école)", {}, "reml"),
    "weights": ("größe ~ dose + (1 | école)", {"weights": "w"}, "reml"),
    "se": ("größe ~ dose + (1 | école)", {"se": "w"}, "ml"),
    "offset": ("größe ~ dose + offset(w) + (1 | école)", {}, "reml"),
    "boolean": ("ja ~ dose + (1 | école)", {"family": "bernoulli"}, "ml"),
    "boolean predictor": ("größe ~ ja + (1 | école)", {}, "reml"),
    "counts": ("p(k, n) ~ dose + (1 | école)", {"family": "binomial"}, "ml"),
    "cbind": ("cbind(k, n) ~ dose + (1 | école)", {"family": "binomial"}, "ml"),
    "poisson": ("k ~ dose + (1 | école)", {"family": "poisson"}, "ml"),
    "glm": ("k ~ dose", {"family": "poisson"}, "ml"),
    "two levels": ("klass ~ dose", {"family": "bernoulli"}, "ml"),
}


@pytest.mark.filterwarnings("ignore::hiermod.errors.HiermodWarning")  # some of these fits are singular
@pytest.mark.parametrize("case", CASES)
def test_frequentist_fits_come_back(case: str, tmp_path: Path) -> None:
    formula, options, method = CASES[case]
    data = odd_data()
    fit = getattr(hm.Model(formula, data, **options), method)()
    back = again(fit, tmp_path)
    assert type(back) is type(fit)
    same(fit, back)
    new = data.iloc[[3, 1, 50]]
    for how in ({"target": "population"}, {"target": "conditional", "interval": 0.9}):
        pd.testing.assert_frame_equal(fit.predict(new, **how), back.predict(new, **how), rtol=1e-9)
    assert (fit.loglik, fit.criterion, fit.npar) == (back.loglik, back.criterion, back.npar)
    pd.testing.assert_series_equal(fit.theta, back.theta, check_exact=True)


def test_quadrature_comes_back(tmp_path: Path) -> None:
    fit = hm.Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial").ml(nodes=5)
    back = again(fit, tmp_path)
    assert back.nodes == 5
    same(fit, back)
    # the joint law of (beta, b) is made again from weights at the stored linear predictor, which are the same bits
    assert np.array_equal(fit.record.cond_cov[0], back.record.cond_cov[0])
    assert back.record.problem.sigma_known is fit.record.problem.sigma_known is True


def test_inference_continues_after_loading(tmp_path: Path) -> None:
    fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    back = again(fit, tmp_path)
    # rtol 1e-7: cross-products are made again, and Kenward-Roger differentiates through them
    pd.testing.assert_frame_equal(fit.fixef(ddf="kenward-roger"), back.fixef(ddf="kenward-roger"), rtol=1e-7)
    pd.testing.assert_frame_equal(fit.anova(), back.anova(), rtol=1e-7)
    y = np.array(fit.design.y)[::-1].copy()
    assert back.refit(y).criterion == pytest.approx(fit.refit(y).criterion, rel=1e-12)
    pd.testing.assert_frame_equal(fit.simulate(2, random_seed=3), back.simulate(2, random_seed=3), rtol=1e-12)


def test_a_singular_fit_stays_singular(tmp_path: Path) -> None:
    model = hm.Model("mpg ~ wt + (wt | cyl)", hm.load_dataset("mtcars"))
    with pytest.warns(hm.SingularFitWarning):
        fit = model.reml()
    back = again(fit, tmp_path)
    assert back.singular
    same(fit, back)


def test_a_rank_deficient_fit_keeps_its_nan(tmp_path: Path) -> None:
    data = odd_data().assign(double=lambda d: 2 * d["dose"])
    with pytest.warns(hm.RankDeficiencyWarning):
        fit = hm.Model("größe ~ dose + double", data).reml()
    same(fit, again(fit, tmp_path))


def test_a_bayesian_fit_comes_back(tmp_path: Path) -> None:
    data = hm.load_dataset("sleepstudy")
    model = hm.Model(
        "Reaction ~ Days + (Days | Subject)", data, priors={"Days": "Normal(0, 20)", "Subject_corr": "LKJ(4)"}
    )
    fit = model.fit(draws=500, chains=2, random_seed=7)
    back = again(fit, tmp_path)
    same(fit, back)
    for name in ("beta", "sigma"):
        assert np.array_equal(getattr(fit.record, name), getattr(back.record, name))
    assert np.array_equal(fit.record.b[0], back.record.b[0])
    assert np.array_equal(fit.record.corr[0], back.record.corr[0])
    assert np.array_equal(fit.record.unconstrained, back.record.unconstrained)
    assert back.inference == fit.inference
    assert fit.loo().elpd == back.loo().elpd
    assert fit.logo("Subject").elpd == back.logo("Subject").elpd
    new = data.iloc[[5, 90]]
    how = {"interval": 0.9, "kind": "response", "random_seed": 1}
    pd.testing.assert_frame_equal(fit.predict(new, **how), back.predict(new, **how))
    assert back.record.idata is None  # as lazy as it was
    assert np.array_equal(versions.posterior_dataset(back.idata)["Days"], fit.record.beta[..., 1])
    assert back.origin.priors["Days"] == "Normal(0, 20)"
    assert back.origin.priors["Subject_corr"] == "LKJ(4)"
    assert set(vars(back.model)) == set(vars(model))  # the Model comes back whole
    assert (back.model._priors, back.model.formula, back.model.link) == (model._priors, model.formula, model.link)
    assert back.origin.versions["python"] == sys.version.split()[0]
    assert back.inference.seed == 7


def test_saving_changes_nothing(tmp_path: Path) -> None:
    fit = hand_made(hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")))
    before = dict(vars(fit))
    fit.save(tmp_path / "a.nc")
    assert vars(fit) == before
    hm.load(tmp_path / "a.nc").save(tmp_path / "b.nc")  # a loaded fit can be saved again
    same(fit, hm.load(tmp_path / "b.nc"))


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("größe ~ I(dose / 2) + Gerät + (I(dose / 2) | école)", {}),
        ("größe ~ dose + (klass || école) + (1 | dose)", {}),
        ("größe ~ Gerät:klass + (0 + klass | école)", {"se": "w"}),
        ("größe ~ dose", {}),
    ],
)
def test_draws_come_back_bit_by_bit(formula: str, options: dict[str, Any], tmp_path: Path) -> None:
    fit = hand_made(hm.Model(formula, odd_data(), **options), draws=20)
    back = again(fit, tmp_path)
    same(fit, back)
    for a, b in zip((*fit.record.b, *fit.record.sd), (*back.record.b, *back.record.sd), strict=True):
        assert np.array_equal(a, b)


def test_groups_that_the_person_added_are_kept(tmp_path: Path) -> None:
    fit = hand_made(hm.Model("größe ~ dose", odd_data()), draws=5)
    own = xr.Dataset({"mine": (("side",), [1.0, 2.0]), "words": (("side",), np.array(["é", None], dtype=object))})
    if hasattr(fit.idata, "children"):
        fit.idata["own"] = xr.DataTree(own)
    else:
        fit.idata.add_groups(own=own)
    back = again(fit, tmp_path)
    assert set(versions.group_names(back.idata)) == set(versions.group_names(fit.idata)) > {"log_likelihood", "own"}
    found = versions.group_dataset(back.idata, "own")
    assert list(found["mine"].values) == [1.0, 2.0]
    assert list(found["words"].values) == ["é", ""]
    xr.testing.assert_identical(versions.posterior_dataset(fit.idata), versions.posterior_dataset(back.idata))


# --- rows, names, functions -----------------------------------------------------------------------------------------

INDEXES = {
    "steps": pd.RangeIndex(10, 130, 2, name="row"),
    "numbers": pd.Index(np.arange(60)[::-1], name=3),
    "decimals": pd.Index(np.linspace(0, 1, 60)),
    "text": pd.Index([f"ré{i}" for i in range(60)], name="näme"),
    "dates": pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Copenhagen", name="t"),
    "plain dates": pd.date_range("2024-03-30", periods=60, unit="s"),
    "periods": pd.period_range("2001-01", periods=60, freq="M"),
    "lengths": pd.to_timedelta(np.arange(60), unit="min"),
    "categories": pd.CategoricalIndex(["x", "y", "z"] * 20, categories=["z", "y", "x"], ordered=True),
    "pairs": pd.MultiIndex.from_product([["a", "b"], range(30)], names=["first", None]),
    "mixed": pd.Index(["a", 1, None, 2.5, True] * 12, dtype=object),
    "days": pd.Index(pd.date_range("2020-01-01", periods=60).date),
    "missing numbers": pd.Index([1, None, 3] * 20, dtype="Int64"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_row_labels_come_back(kind: str, tmp_path: Path) -> None:
    data = odd_data().set_index(INDEXES[kind])
    fit = hm.Model("größe ~ dose", data).ml()
    back = again(fit, tmp_path)
    pd.testing.assert_index_equal(back.design.index, fit.design.index, exact=True)
    assert back.fitted().index.equals(data.index)


def test_rows_left_out_are_remembered(tmp_path: Path) -> None:
    data = odd_data()
    data.loc[[3, 7], "dose"] = np.nan
    data.loc[7, "größe"] = np.nan
    fit = hm.Model("größe ~ dose", data, dropna=True).ml()
    back = again(fit, tmp_path)
    assert (back.design.n_rows_data, back.design.missing) == (60, {"größe": 1, "dose": 2})
    same(fit, back)


def test_an_index_that_no_file_can_hold_is_told(tmp_path: Path) -> None:
    data = odd_data().set_index(pd.Index([object() for _ in range(60)]))
    with pytest.raises(UnsupportedError, match="the index of the data holds object values"):
        hm.Model("größe ~ dose", data).reml().save(tmp_path / "fit.nc")
    assert list(tmp_path.iterdir()) == []


def halved(x: Any) -> Any:
    return x / 2


def test_functions_are_asked_for_and_checked(tmp_path: Path) -> None:
    names = {"halved": halved, "cut": 1.5, "table": np.array([1.0, 2.0]), "unused": len}
    fit = hm.Model("größe ~ halved(dose) + I(dose > cut)", odd_data(), extra_namespace=names).reml()
    path = fit.save(tmp_path / "fit.nc")
    with pytest.raises(UnknownNameError, match=r"extra_namespace=\{'halved': \.\.\.\}"):
        hm.load(path)
    back = hm.load(path, extra_namespace={"halved": halved})
    same(fit, back)
    new = odd_data().head(3)
    pd.testing.assert_frame_equal(fit.predict(new), back.predict(new))
    assert np.array_equal(back.design.evaluator.extra_namespace["table"], [1.0, 2.0])
    with pytest.raises(FileError, match="gives other columns than those of the fit"):
        hm.load(path, extra_namespace={"halved": lambda x: x / 3})
    with pytest.raises(FileError, match="cannot be evaluated again"):
        hm.load(path, extra_namespace={"halved": lambda x: x["no"]})
    with pytest.raises(ArgumentTypeError, match="must be a dict"):
        hm.load(path, extra_namespace=[halved])


# --- files that are not what they should be ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good file, not to be changed."""
    fit = hand_made(hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")), draws=20)
    return fit.save(tmp_path_factory.mktemp("kept") / "fit.nc")


@pytest.fixture(scope="module")
def small() -> Any:
    """A fit that is saved and loaded quickly, not to be changed."""
    return hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml()


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    cut = tmp_path / "cut.nc"
    cut.write_bytes(whole[: int(share * (len(whole) - SEALED))])
    with pytest.raises(FileError, match="damaged, perhaps cut off"):
        hm.load(cut)


@pytest.mark.parametrize("left", [8, 16, 17, 50, 80])
def test_a_seal_that_was_cut_is_refused(left: int, kept: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nc"
    cut.write_bytes(kept.read_bytes()[: left - SEALED])
    with pytest.raises(FileError, match="damaged, perhaps cut off"):
        hm.load(cut)


def test_a_file_without_a_seal_is_read(kept: Path, tmp_path: Path) -> None:
    """As those of the first versions are: its content has a SHA-256 too."""
    (tmp_path / "bare.nc").write_bytes(kept.read_bytes()[:-SEALED])
    same(hm.load(kept), hm.load(tmp_path / "bare.nc"))


def test_changed_bytes_never_give_another_fit(kept: Path, tmp_path: Path) -> None:
    """Bytes changed at random: the same fit (where they mean nothing), or a FileError."""
    whole, rng, refused = kept.read_bytes(), np.random.default_rng(5), 0
    fit = hm.load(kept)
    for at in rng.integers(0, len(whole), 25):
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "changed.nc").write_bytes(bytes(changed))
        try:
            back = hm.load(tmp_path / "changed.nc")
        except FileError:
            refused += 1
        else:
            assert np.array_equal(back.record.beta, fit.record.beta)
            pd.testing.assert_frame_equal(back.design.frame, fit.design.frame)
    assert refused > 5  # much of a small HDF5 file is room for more


def edited(kept: Path, folder: Path, change: Any) -> Path:
    """A copy of the file that ``change`` was let loose on, an h5py.File."""
    h5py = pytest.importorskip("h5py")
    copy = folder / "edited.nc"
    copy.write_bytes(kept.read_bytes())
    with h5py.File(copy, "r+") as file:
        change(file)
    return copy


def test_edited_content_is_refused(kept: Path, tmp_path: Path) -> None:
    def draw(file: Any) -> None:
        file["posterior/Days"][0, 0] += 1e-9

    def response(file: Any) -> None:
        y = file["hiermod/a0"]
        assert y[0] == hm.load(kept).design.y[0]
        y[0] += 1.0

    for change in (draw, response):
        with pytest.raises(FileError, match="not as it was saved"):
            hm.load(edited(kept, tmp_path, change))


def test_other_files_are_refused(kept: Path, tmp_path: Path) -> None:
    def path(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(foreign, engine="h5netcdf")

    def newer(file: Any) -> None:
        file["hiermod"].attrs["format"] = 99

    def without(file: Any) -> None:
        del file["posterior"]

    def bare(file: Any) -> None:
        del file["hiermod"].attrs["groups"]

    for wrong, words in (
        (tmp_path / "no.nc", "there is no file"),
        (tmp_path, "is a folder"),
        (path("empty.nc", b""), "is empty"),
        (path("text.nc", b"Reaction,Days\n1,2\n"), "no netCDF-4"),
        (path("old.nc", b"CDF\x01" + bytes(100)), "no netCDF-4"),
        (foreign, "not one that fit.save"),
        (edited(kept, tmp_path, newer), "format 99, and this hiermod"),
    ):
        with pytest.raises(FileError, match=words):
            hm.load(wrong)
    with pytest.raises(FileError, match="lacks the group 'posterior'"):
        hm.load(edited(kept, tmp_path, without))
    with pytest.raises(FileError, match="without what fit"):
        hm.load(edited(kept, tmp_path, bare))
    with pytest.raises(ArgumentTypeError, match="path must be"):
        hm.load(3)


def forged(kept: Path, folder: Path, change: Any) -> Path:
    """A file whose JSON was changed, its SHA-256 made to agree: what only someone with intent would make."""
    with kept.open("rb") as handle:
        file = Packed.read(handle)
        own = file.group("hiermod", plain=True)
        groups = {name: file.group(name) for name in json.loads(own.attrs["groups"])}
    text = json.dumps(change(json.loads(own["fit"].values.tobytes()))).encode()
    own = own.drop_vars("fit").assign(fit=(("fit_bytes",), np.frombuffer(text, dtype="u1")))
    path = folder / "forged.nc"
    packed = pack({"hiermod": own, **groups})
    describe(packed, {"sha256": storage._content({"hiermod": own, **groups})})
    path.write_bytes(packed.getvalue())
    return path


def test_a_forged_file_makes_nothing_but_records(kept: Path, tmp_path: Path) -> None:
    def replaced(name: str, value: Any) -> Any:
        return lambda text: {"map": [[key, value if key == name else item] for key, item in text["map"]]}

    def plus(field: str, value: Any) -> Any:
        def change(text: Any) -> Any:
            record = dict(text["map"])["record"]
            record["fields"][field] = value
            return text

        return change

    assert hm.load(forged(kept, tmp_path, lambda text: text)).nobs == 180  # the way of forging itself works
    for change, words in (
        (replaced("record", {"record": "system", "fields": {"command": "echo"}}), "record 'system'"),
        (replaced("record", {"object": "os.system"}), "no known kind"),
        (replaced("record", [1, 2]), "no fit that hiermod can make sense of"),
        (replaced("kind", "Path"), "no fit that hiermod can make sense of"),
        (plus("later", 1), "has later, unlike this version"),
    ):
        with pytest.raises(FileError, match=words):
            hm.load(forged(kept, tmp_path, change))


def test_no_file_holds_pickles(kept: Path) -> None:
    with kept.open("rb") as handle:
        own = Packed.read(handle).group("hiermod", plain=True)
    assert {own[name].dtype.kind for name in own.variables} <= set("biuf")
    with pytest.raises(UnsupportedError, match="function values"):
        Writer({}).write({"a": len.__class__ and halved}, "x")
    with pytest.raises(FileError, match="no type of number"):
        Reader(lambda i: np.zeros(1)).read({"array": 0, "type": "O", "shape": [1]})


# --- saving that does not end well ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), FileError),
        (PermissionError(errno.EACCES, "Permission denied"), FileError),
        (MemoryError(), MemoryError),
    ],
    ids=["Ctrl-C", "disk full", "no permission", "memory"],
)
@pytest.mark.parametrize("place", ["packing", "sync", "replace"])
def test_what_was_there_stays(
    place: str, error: BaseException, seen: type[BaseException], small: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    fit, target = small, tmp_path / "fit.nc"
    target.write_bytes(b"the old file")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    if place == "packing":
        monkeypatch.setattr(storage, "pack", fail)
    else:
        monkeypatch.setattr(os, {"sync": "fsync", "replace": "replace"}[place], fail)
    with pytest.raises(seen):
        fit.save(target)
    monkeypatch.undo()
    assert [one.name for one in tmp_path.iterdir()] == ["fit.nc"]  # nothing unfinished is left
    assert target.read_bytes() == b"the old file"
    same(fit, hm.load(fit.save(target)))


def test_where_a_file_cannot_be(kept: Path, tmp_path: Path) -> None:
    fit = hm.load(kept)
    with pytest.raises(FileError, match="is a folder: give the name of a file"):
        fit.save(tmp_path)
    with pytest.raises(FileError, match="there is no folder"):
        fit.save(tmp_path / "none" / "fit.nc")
    with pytest.raises(ArgumentTypeError, match="path must be"):
        fit.save(None)
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # nothing is read-only to root
        tmp_path.chmod(0o500)
        with pytest.raises(FileError, match="could not be written"):
            fit.save(tmp_path / "fit.nc")
        tmp_path.chmod(0o700)


def test_text_paths_links_and_names(kept: Path, tmp_path: Path, monkeypatch: Any) -> None:
    fit = hm.load(kept)
    monkeypatch.chdir(tmp_path)
    assert fit.save("modèle sans fin") == Path("modèle sans fin")
    same(fit, hm.load("modèle sans fin"))
    (tmp_path / "far").mkdir()
    (tmp_path / "link.nc").symlink_to(tmp_path / "far" / "fit.nc")
    fit.save("link.nc")
    assert (tmp_path / "link.nc").is_symlink()
    same(fit, hm.load(tmp_path / "far" / "fit.nc"))


def test_nothing_stays_open(kept: Path, tmp_path: Path) -> None:
    """On Windows an open file could be neither replaced nor deleted; here what is open is counted."""
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("this system does not list open files")
    hm.load(kept)

    def mine() -> list[str]:
        return [link for one in handles.iterdir() if (link := os.path.realpath(one)).endswith(".nc")]

    assert mine() == []
    hm.load(kept).save(tmp_path / "fit.nc")
    assert mine() == []


def test_loading_a_reml_fit_loads_no_bayesian_package(tmp_path: Path) -> None:
    path = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml().save(tmp_path / "fit.nc")
    code = f"import sys, hiermod as hm; hm.load({str(path)!r}).summary(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"pymc", "bambi", "arviz", "matplotlib"}.isdisjoint(done.stdout.split())


# --- the two stacks ----------------------------------------------------------------------------------------------


@pytest.mark.stack
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_files_of_both_stacks_are_read(python: str) -> None:
    """tests/stored/make.py wrote them, on Python 3.11 (ArviZ 0.23, PyMC 5) and 3.13 (ArviZ 1.3, PyMC 6)."""
    fit = hm.load(STORED / f"nuts-{python}.nc")
    expected = json.loads((STORED / f"nuts-{python}.json").read_text(encoding="utf-8"))
    assert fit.origin.versions["python"].startswith(f"{python}.")
    assert fit.inference.method == "nutpie"
    # 1e-12: means of the same numbers, by another numpy perhaps
    assert fit.fixef()["estimate"].to_list() == pytest.approx(expected["fixef"], rel=1e-12)
    assert fit.ranef()["estimate"].to_list() == pytest.approx(expected["ranef"], rel=1e-12)
    assert fit.varcorr()["sdcor"].to_list() == pytest.approx(expected["sdcor"], rel=1e-12)
    assert {"posterior", "sample_stats", "observed_data"} <= set(versions.group_names(fit.idata))
    new = fit.design.frame.head(2)
    assert fit.predict(new)["estimate"].to_list() == pytest.approx(expected["predict"], rel=1e-12)


@pytest.mark.stack
def test_arviz_opens_the_file(kept: Path) -> None:
    import arviz as az

    days = versions.posterior_dataset(az.from_netcdf(kept))["Days"]
    assert np.array_equal(np.asarray(days), hm.load(kept).record.beta[..., 1])


@pytest.mark.stack
def test_a_fit_by_nuts_comes_back(tmp_path: Path) -> None:
    data = odd_data()
    model = hm.Model("ja ~ I(dose * 2) + (1 | école)", data, family="bernoulli", priors={"I(dose * 2)": "Normal(0, 3)"})
    with pytest.warns(hm.ConvergenceWarning):
        fit = model.fit(draws=20, tune=50, chains=2, random_seed=1)
    back = again(fit, tmp_path)
    same(fit, back)
    assert versions.group_names(back.idata) == versions.group_names(fit.idata)
    for group in versions.group_names(fit.idata):
        xr.testing.assert_equal(versions.group_dataset(fit.idata, group), versions.group_dataset(back.idata, group))
    assert back.origin.priors["I(dose * 2)"] == "Normal(mu=0, sigma=3)"
    assert repr(back.inference) == repr(fit.inference)  # nan is not equal to itself
    assert isinstance(back.model.pymc, type(model.pymc))  # the graph can be built again
