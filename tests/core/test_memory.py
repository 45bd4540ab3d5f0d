"""What would take more memory than there is is refused before it is begun, with its size and what would fit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.core import memory
from hiermod.engines.nuts.graph import graph_bytes
from hiermod.errors import ArgumentError, UnsupportedError


def many_groups(rows: int = 60_000, levels: int = 30_000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g = np.arange(rows) % levels
    return pd.DataFrame({"x": rng.normal(size=rows), "g": g, "y": rng.normal(size=levels)[g] + rng.normal(size=rows)})


def test_free_memory_is_what_the_system_can_give() -> None:
    free = memory.free_memory()
    assert 1e7 < free < 1e14
    assert memory.room() == pytest.approx(memory.SHARE * free, rel=0.2)  # read twice, and others run
    assert memory.room(1000.0) == 1000.0


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "max").write_text("3000000000\n")
    (tmp_path / "current").write_text("1000000000\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "_of_the_system", lambda: 8e9)
    monkeypatch.setattr(memory, "_of_the_process", lambda: float("inf"))
    current = str(tmp_path / "current")
    monkeypatch.setattr(memory, "CGROUPS", ((str(tmp_path / "max"), current),))
    assert memory.free_memory() == 2e9
    monkeypatch.setattr(memory, "CGROUPS", ((str(tmp_path / "none"), current), ("/no/such/file", "/no/such/other")))
    assert memory.free_memory() == 8e9
    monkeypatch.setattr(memory, "_of_the_process", lambda: -5.0)
    assert memory.free_memory() == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited so on Linux only")
def test_a_limit_of_the_process_counts() -> None:
    code = (
        "import resource; from hiermod.core import memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9))\n"
        "print(memory.free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert 1e8 < float(done.stdout) < 2e9


@pytest.mark.filterwarnings("ignore::hiermod.errors.HiermodWarning")
def test_a_graph_that_does_not_fit_is_refused_and_told_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 16 GB are free: 14.4 GB of indicator, and as much again for its slope."""
    monkeypatch.setattr(memory, "free_memory", lambda: 16e9)
    model = hm.Model("y ~ x + (x | g)", many_groups())
    with pytest.raises(UnsupportedError, match=r"30,000 levels of g\).*about 31\.7 GB.*room for 12\.8") as refused:
        model.fit(inference_method="nutpie")
    # (1.2 + 1) x 8 x 60,000 bytes a level
    assert f"about {int(12.8e9 / (2.2 * 8 * 60_000)):,} levels of g fit" in str(refused.value)
    assert "marginal engine" in str(refused.value)
    with pytest.raises(UnsupportedError, match=r"about 31\.7 GB"):
        model.bambi  # noqa: B018
    counts = many_groups().assign(y=lambda d: (d["y"] > 0).astype(int))
    with pytest.raises(UnsupportedError, match=r"m\.ml\(\) needs no graph"):
        hm.Model("y ~ x + (x | g)", counts, family="bernoulli").fit(inference_method="nutpie")


def test_what_a_graph_takes() -> None:
    """Measured with 20,000 rows, in units of 8 n J bytes: 1.26 for (1 | g), 2.25 for (x | g), 2.31 for two intercepts,
    3.30 for (x | g) + (x | h)."""
    data = many_groups(600, 30).assign(h=lambda d: np.arange(len(d)) // 20)
    unit = 8.0 * 600 * 30
    for right, measured in [("(1|g)", 1.26), ("(x|g)", 2.25), ("(1|g)+(1|h)", 2.31), ("(x|g)+(x|h)", 3.30)]:
        assert graph_bytes(hm.Model(f"y ~ {right}", data).spec) / unit == pytest.approx(measured, rel=0.06)
    assert graph_bytes(hm.Model("y ~ x", data).spec) == 0


def test_draws_that_do_not_fit_are_refused_before_anything_is_compiled() -> None:
    model = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    for method in ("nutpie", "auto"):
        with pytest.raises(ArgumentError, match=r"GB"):
            model.fit(draws=5_000_000, chains=100, inference_method=method)
        with pytest.raises(ArgumentError, match="draws is 1000000000000, and must be at most"):
            model.fit(draws=10**12, inference_method=method)
