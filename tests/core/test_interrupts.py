"""Ctrl-C during compilation: never lost, and raised at once where raising is safe."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from hiermod.engines.nuts.interrupts import interruptible

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="only a main thread hears signals"
)


@pytest.fixture(autouse=True)
def _ordinary():
    """The handler every program starts with, whatever the test runner has put there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def in_llvm(code: str) -> None:
    """Run code as if it stood in llvmlite."""
    exec(compile(code, "callback", "exec"), {"__name__": "llvmlite.binding.fake", "signal": signal})


def in_python() -> None:
    signal.raise_signal(signal.SIGINT)
    pytest.fail("the interrupt was lost")


def test_an_interrupt_inside_llvm_comes_a_moment_later():
    reached = []

    def compiling() -> None:
        in_llvm("signal.raise_signal(signal.SIGINT)")
        reached.append("after the callback")  # ctypes would have thrown the exception away before this line
        time.sleep(5)
        reached.append("never")

    with pytest.raises(KeyboardInterrupt), interruptible():
        compiling()
    assert reached == ["after the callback"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_elsewhere_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), interruptible():
        in_python()


def test_a_persons_own_handler_stays():
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    with interruptible():
        signal.raise_signal(signal.SIGINT)
    assert heard == [1]
