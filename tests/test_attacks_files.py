"""Attacks by file and path: whatever is loaded or written to, nothing runs, nothing is lost, and the end is a sentence.

docs/security.md says what is trusted and what is not; this is what holds it to that."""

from __future__ import annotations

import io
import itertools
import os
import re
import socket
import stat
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from damages import Damage, accidents, edits, foreign, forgeries

import hiermod as hm
from hiermod.core import files
from hiermod.core.files import file_path, whole
from hiermod.errors import ArgumentTypeError, FileError, HiermodError
from hiermod.output.storage import container
from hiermod.study.checkpoint import Checkpoint
from hiermod.study.power_jobs import is_chunk

STORED = Path(__file__).parent / "stored" / "format-1"
KINDS = ("lm", "reml", "glmm_laplace", "marginal_crossed", "nuts_sigma")
posix = pytest.mark.skipif(os.name != "posix", reason="permissions, pipes and links of POSIX systems")
root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def fit() -> Any:
    return hm.load(STORED / "lm.nc")


# --- damaged and crafted files ------------------------------------------------------------------------------------


def same_numbers(a: Any, b: Any) -> None:
    pd.testing.assert_frame_equal(a.fixef(), b.fixef(), check_exact=True)
    pd.testing.assert_frame_equal(a.design.frame, b.design.frame, check_exact=True)
    assert np.array_equal(a.design.X, b.design.X)
    for name in ("beta", "theta", "sigma", "loglik"):
        left, right = (getattr(one.record, name, None) for one in (a, b))
        assert np.array_equal(np.asarray(left, dtype=float), np.asarray(right, dtype=float), equal_nan=True), name


def check_words(name: str, error: HiermodError, path: Path | None) -> None:
    """A FileError that names the file (None: of any kind), in words that a terminal prints as they are."""
    words = str(error)
    assert path is None or (isinstance(error, FileError) and str(path) in words), (name, words)
    assert "\x1b" not in words, name


def attacked(damages: Iterable[Damage], fit: Any, folder: Path, alike: bool = True) -> Counter[str]:
    """Load each; how many were refused and how many did no harm.  alike: those that load have the fit's numbers."""
    ends: Counter[str] = Counter()
    path = folder / "attack.nc"
    for name, content in damages:
        path.write_bytes(content)
        try:
            back = hm.load(path)
        except HiermodError as error:
            check_words(name, error, path if alike else None)
            ends["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__} {error}") from error
        else:
            ends["loaded"] += 1
            if alike:
                same_numbers(fit, back)
    return ends


def test_accidents(tmp_path: Path, fit: Any) -> None:
    content = (STORED / "lm.nc").read_bytes()
    ends = attacked(accidents(content, 20, seed=1), fit, tmp_path)
    assert sum(ends.values()) == 120
    assert ends["refused"] > 80  # the rest hit room that holds nothing


def test_edited_hdf5(tmp_path: Path, fit: Any) -> None:
    """Every fifth of them; among all are sizes of 745 GB, links to other files, filters that are plug-ins."""
    ends = attacked(itertools.islice(edits((STORED / "lm.nc").read_bytes(), tmp_path), 0, None, 5), fit, tmp_path)
    assert ends["refused"] > 40


def test_forgeries(tmp_path: Path, fit: Any) -> None:
    """With the right SHA-256 a file can say what it likes; what it says makes records of numbers or a FileError."""
    ends = attacked(forgeries((STORED / "lm.nc").read_bytes(), 30, seed=2), fit, tmp_path, alike=False)
    assert ends["refused"] > 20


def test_files_of_other_kinds(tmp_path: Path, fit: Any) -> None:
    ends = attacked(foreign(), fit, tmp_path)
    assert ends == {"refused": 13}


def test_bytes_that_changed_are_seen_before_hdf5_sees_them(fit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """HDF5 waits for ever on some; what is saved today ends in a SHA-256 of its bytes."""
    content = fit.save(tmp_path / "fit.nc").read_bytes()
    same_numbers(fit, hm.load(tmp_path / "fit.nc"))
    monkeypatch.setattr(container, "_checked", lambda *_: pytest.fail("HDF5 read bytes that had changed"))
    for at in (20, 600, len(content) // 2, len(content) - 100):
        changed = bytearray(content)
        changed[at] ^= 4
        (tmp_path / "fit.nc").write_bytes(bytes(changed))
        with pytest.raises(FileError, match="its bytes and the SHA-256 at its end disagree"):
            hm.load(tmp_path / "fit.nc")


def test_a_heap_without_an_end_is_told_and_not_waited_for(tmp_path: Path) -> None:
    content = (STORED / "lm.nc").read_bytes()
    at = content.index(b"GCOL\x01\0\0\0") + 16
    (tmp_path / "fit.nc").write_bytes(content[:at] + bytes(16) + content[at + 16 :])  # an entry 0 of no length
    with pytest.raises(FileError, match="an entry without an end"):
        hm.load(tmp_path / "fit.nc")


def test_numbers_that_are_packed_twice_are_not_unpacked(fit: Any, tmp_path: Path) -> None:
    """Ten bytes could become ten million: HDF5 unpacks a block to its end, whatever length is declared for it."""
    path = fit.save(tmp_path / "fit.nc")
    content = io.BytesIO(path.read_bytes().rpartition(container.SEAL)[0])
    with h5py.File(content, "a") as file:
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        how.set_chunk((1000,))
        how.set_deflate(9)
        how.set_deflate(9)
        space = h5py.h5s.create_simple((1000,))
        made = h5py.h5d.create(file["hiermod"].id, b"again", h5py.h5t.NATIVE_UINT8, space, how)
        made.write_direct_chunk((0,), zlib.compress(zlib.compress(bytes(10**7))))
    container.seal(content)
    path.write_bytes(content.getvalue())
    with pytest.raises(FileError, match="several times in the same way"):
        hm.load(path)


def test_a_text_that_is_named_a_million_times_is_not_read(fit: Any, tmp_path: Path) -> None:
    """Each of the sixteen bytes that name it would become a copy of the text."""
    path = fit.save(tmp_path / "fit.nc")
    content = io.BytesIO(path.read_bytes().rpartition(container.SEAL)[0])
    many = 2_000_000
    with h5py.File(content, "a") as file:
        made = file["hiermod"].create_dataset(
            "text", shape=(many,), dtype=h5py.string_dtype(), chunks=(many,), compression="gzip"
        )
        one = file["hiermod"].create_dataset("one", shape=(1,), dtype=h5py.string_dtype(), chunks=(1,))
        one[0] = "a" * 100_000
        file.flush()
        _, reference = one.id.read_direct_chunk((0,))
        made.id.write_direct_chunk((0,), zlib.compress(reference * many))
    container.seal(content)
    path.write_bytes(content.getvalue())
    with pytest.raises(FileError, match="names more text"):
        hm.load(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fit_under_attack(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of attacks, half an hour: run by hand."""
    content, fit = (STORED / f"{kind}.nc").read_bytes(), hm.load(STORED / f"{kind}.nc")
    ends = attacked(accidents(content, 100, seed=3), fit, tmp_path)
    ends += attacked(edits(content, tmp_path), fit, tmp_path)
    told = Counter(f"forged: {name}" for name in attacked(forgeries(content, 300, 4), fit, tmp_path, False).elements())
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: {dict(ends)}, {dict(told)}\n")
    assert ends.total() > 600


# --- checkpoints --------------------------------------------------------------------------------------------------

LINES = [{"chunk": i, "p": [0.25, 1e-300, None], "messages": ["é"], "estimate": 1 / 3 + i} for i in range(4)]


def checkpoint(path: Path, lines: list[Any] = LINES, **settings: Any) -> Path:
    store = Checkpoint(path)
    store.begin({"work": "power", "seed": 1, **settings})
    for line in lines:
        store.add(line)
    return path


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    store = Checkpoint(checkpoint(tmp_path / "work.jsonl"))
    assert store.records == LINES
    assert store.header == {"format": "hiermod checkpoint 2", "work": "power", "seed": 1}


def test_every_changed_byte_of_a_checkpoint_is_seen(tmp_path: Path) -> None:
    """One altered digit changed a power table; now no change of any byte gives other records."""
    whole = checkpoint(tmp_path / "work.jsonl").read_bytes()
    for at in range(len(whole)):
        for bit in (1, 4):
            changed = bytearray(whole)
            changed[at] ^= bit
            (tmp_path / "work.jsonl").write_bytes(bytes(changed))
            try:
                records = Checkpoint(tmp_path / "work.jsonl").records
            except FileError:
                continue
            assert records in (LINES, LINES[:-1])  # the last line break: then that line was cut off


def test_lines_of_other_work_are_seen(tmp_path: Path) -> None:
    own = checkpoint(tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    other = checkpoint(tmp_path / "b.jsonl", [{**LINES[1], "estimate": 9.0}], seed=2).read_bytes()
    (tmp_path / "a.jsonl").write_bytes(b"".join([*own[:2], *other.splitlines(keepends=True)[1:], *own[3:]]))
    with pytest.raises(FileError, match="line 3 is not as it was written"):
        Checkpoint(tmp_path / "a.jsonl")


def test_a_checkpoint_of_the_first_format_goes_on(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text('{"format": "hiermod checkpoint 1", "work": "power", "seed": 1}\n{"chunk": 0}\n', encoding="utf-8")
    store = Checkpoint(path)
    assert "changed digits in it cannot be seen" in caplog.text
    store.begin({"work": "power", "seed": 1})
    store.add({"chunk": 1})
    assert Checkpoint(path).records == [{"chunk": 0}, {"chunk": 1}]


@pytest.mark.parametrize(
    "line", ["[" * 100_000, "nan", '{"a": 1}', "[1]", '"x"', '{"a": ' + "9" * 10_000 + "}", "\x00"]
)
@pytest.mark.parametrize("place", ["first", "second"])
def test_odd_lines(line: str, place: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "work.jsonl", [])
    path.write_bytes((b"" if place == "first" else path.read_bytes()) + line.encode() + b"\n")
    with pytest.raises(FileError, match="not a checkpoint of hiermod, or it is damaged"):
        Checkpoint(path)


def test_records_of_a_power_curve_are_checked() -> None:
    good = {"size": 8, "chunk": 0, "p": [0.5, None], "estimate": [1.5, None], "singular": [False, True],
            "converged": [True, True], "messages": ["no"]}  # fmt: skip
    assert is_chunk(good)
    for name, value in (
        ("size", "8"), ("size", True), ("chunk", None), ("p", [0.5]), ("p", [2.0, None]), ("p", [-0.1, None]),
        ("p", ["0.5", None]), ("p", 3), ("estimate", [1, [2]]), ("singular", [0, 1]), ("messages", "no"),
        ("messages", [1]), ("p", [float("nan"), None]),
    ):  # fmt: skip
        assert not is_chunk({**good, name: value}), (name, value)


@pytest.mark.parametrize("kind", ["device", "pipe"])
@posix
def test_a_checkpoint_is_a_file(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/null")
    if kind == "pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    with pytest.raises(FileError, match=f"is a {kind}"):
        Checkpoint(path)


# --- caches -----------------------------------------------------------------------------------------------------


def test_a_damaged_cache_is_replaced_with_a_warning(tmp_path: Path, caplog: Any) -> None:
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff"))
    settings: dict[str, Any] = {"draws": 500, "random_seed": 1, "cache": tmp_path}
    first = model.fit(**settings)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for name, content in [*itertools.islice(foreign(), 0, None, 4), *accidents(good, 1, seed=9)]:
        path.write_bytes(content)
        caplog.clear()
        again = model.fit(**settings)
        assert ("the model is fitted again" in caplog.text) == (content != good), name  # zeros over zeros are none
        assert again.fixef().equals(first.fixef()), name
        assert hm.load(path).fixef().equals(first.fixef()), name
        assert [one.name for one in tmp_path.iterdir()] == [path.name]


# --- full disks ---------------------------------------------------------------------------------------------------

SAVE = """
import resource, signal, sys, warnings
import hiermod as hm
fit = hm.load(sys.argv[1])
if sys.argv[3] != "-":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    fit.save(sys.argv[2])
except hm.HiermodError as error:
    print(type(error).__name__, error)
print("alive", fit.nobs)
"""


def saved_elsewhere(target: Path, limit: str) -> str:
    """What a process prints that saves a fit of 120 KB to ``target``."""
    command = [sys.executable, "-c", SAVE, str(STORED / "effects_on_demand.nc"), str(target), limit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@posix
def test_a_limit_on_the_size_of_files_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "fit.nc").write_bytes(b"the old file")
    said = saved_elsewhere(tmp_path / "fit.nc", "20000")
    assert "FileError" in said
    assert "could not be written" in said
    assert "alive 48" in said
    assert [one.name for one in tmp_path.iterdir()] == ["fit.nc"]
    assert (tmp_path / "fit.nc").read_bytes() == b"the old file"


@pytest.mark.skipif(not (sys.platform == "linux" and root), reason="mounts a small disk, which only root can")
def test_a_full_disk_leaves_the_old_file_and_python(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
    try:
        (disk / "fit.nc").write_bytes(b"the old file")
        said = saved_elsewhere(disk / "fit.nc", "-")
        assert "FileError" in said
        assert "No space left on device" in said
        assert "alive 48" in said
        assert [one.name for one in disk.iterdir()] == ["fit.nc"]
        assert (disk / "fit.nc").read_bytes() == b"the old file"
    finally:
        subprocess.run(["umount", disk], check=True)


# --- permissions and kinds of files ---------------------------------------------------------------------------------


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o444])
def test_a_file_keeps_its_permissions(mode: int, fit: Any, tmp_path: Path) -> None:
    path = fit.save(tmp_path / "fit.nc")
    path.chmod(mode)
    before = path.stat()
    fit.save(path)
    assert permissions(path) == mode
    assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)
    assert path.stat().st_ino != before.st_ino  # it is another file


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027, 0o000])
def test_a_new_file_has_what_the_umask_leaves(umask: int, fit: Any, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        assert permissions(fit.save(tmp_path / "fit.nc")) == 0o666 & ~umask
    finally:
        os.umask(before)


@posix
def test_a_private_file_is_private_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "fit.nc").write_bytes(b"old")
    (tmp_path / "fit.nc").chmod(0o600)
    with whole(tmp_path / "fit.nc") as handle:
        handle.write(b"new")
        (unfinished,) = tmp_path.glob(".hiermod-*")
        assert permissions(unfinished) == 0o600
    assert (tmp_path / "fit.nc").read_bytes() == b"new"


@posix
@pytest.mark.skipif(not root, reason="gives files to others, which only root can")
def test_owner_and_group_stay(fit: Any, tmp_path: Path) -> None:
    path = fit.save(tmp_path / "fit.nc")
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    fit.save(path)
    assert (path.stat().st_uid, path.stat().st_gid, permissions(path)) == (12345, 23456, 0o640)


@posix
def test_another_group_gets_no_more_than_everybody_had(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "fit.nc"
    path.write_bytes(b"old")
    path.chmod(0o664)

    def refused(*_: Any) -> None:
        raise PermissionError

    found = os.stat_result([*path.stat()[:5], path.stat().st_gid + 1, *path.stat()[6:]])
    monkeypatch.setattr(os, "fchown", refused)
    monkeypatch.setattr(files, "regular", lambda _: found)
    with whole(path) as handle:
        handle.write(b"new")
    monkeypatch.undo()
    assert permissions(path) == 0o644


@posix
def test_what_is_no_regular_file_is_neither_replaced_nor_read(fit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # opened, it would wait for somebody at its other end
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")  # a whole path may be longer than the 108 characters that it may have
        for path, kind in (
            (Path("/dev/null"), "a device"),
            (Path("/dev/zero"), "a device"),
            (tmp_path, "a folder"),
            (tmp_path / "pipe", "a pipe"),
            (tmp_path / "socket", "a socket"),
        ):
            before = path.stat()
            for attack in (fit.save, hm.load):
                with pytest.raises(FileError, match=f"is {kind}"):
                    attack(path)
            assert path.stat().st_ino == before.st_ino
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(FileError, match="is a device"):
        fit.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


@posix
def test_links_are_followed(fit: Any, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name in ("one", "two"):  # the second exists already when it is saved through
        (tmp_path / name).symlink_to("far/fit.nc")
        fit.save(tmp_path / name)
        assert (tmp_path / name).is_symlink()
    assert [one.name for one in (tmp_path / "far").iterdir()] == ["fit.nc"]
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "nowhere").symlink_to("none/fit.nc")
    for attack in (fit.save, hm.load):
        with pytest.raises(FileError):
            attack(tmp_path / "a")
        with pytest.raises(FileError):
            attack(tmp_path / "nowhere")


ODD_PATHS = ["a\0b.nc", "\0", "x" * 300, "x/" * 3000 + "fit.nc", "~nobody-of-this-name/fit.nc", "", "\ud800.nc"]


@pytest.mark.parametrize("path", ODD_PATHS, ids=lambda path: repr(path[:12]))
def test_odd_paths(path: str, fit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff"))
    attacks = [fit.save, hm.load, lambda path: model.fit(draws=10, cache=path), Checkpoint]
    for attack in attacks:
        with pytest.raises(FileError):
            attack(path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_names_may_be(fit: Any, tmp_path: Path) -> None:
    """What stands beside it while it is written has no longer one."""
    assert hm.load(fit.save(tmp_path / ("n" * 252 + ".nc"))).nobs == fit.nobs


@pytest.mark.parametrize("path", [None, 3, b"fit.nc", ["fit.nc"], True])
def test_what_is_no_path(path: Any, fit: Any) -> None:
    for attack in (fit.save, hm.load, file_path, Checkpoint):
        with pytest.raises(ArgumentTypeError):
            attack(path)


def test_the_page_that_promises_this_is_linked_and_names_what_there_is() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "security.md").read_text(encoding="utf-8")
    assert "security" in (root / "docs" / "index.md").read_text(encoding="utf-8").split()
    named = re.findall(r"`(tests/test_\w+\.py)`", page)
    assert "tests/test_attacks_files.py" in named
    assert all((root / path).is_file() for path in named)
