"""Ctrl-C in a training counts, also where its exception is lost."""

from __future__ import annotations

import contextvars
import functools
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import torch

__all__ = ["CtrlC", "heeding_ctrl_c", "noting"]

Method = TypeVar("Method", bound=Callable[..., Any])


# How many contexts of torch that change operations are entered, and what leaves the last of a kind.
def _modes() -> tuple[tuple[Callable[[], int], Callable[[], Any]], ...]:
    """Of functions and of dispatch; none where torch has other names for what is private there."""
    inside: Any = torch._C
    try:
        return (
            (inside._len_torch_function_stack, inside._pop_torch_function_stack),
            (
                inside._len_torch_dispatch_stack,
                functools.partial(inside._pop_torch_dispatch_stack, None),
            ),
        )
    except AttributeError:
        return ()


MODES = _modes()


class CtrlC:
    """In this context, Ctrl-C is noted besides, and a KeyboardInterrupt in the end at the latest.

    Python ignores what is raised while it ends a generator or frees an object, and code of others
    may swallow it. An interrupt may also come when a context is left, before it has put anything
    back: those of torch are left here. Nothing is noted outside of the main thread, which alone is
    interrupted, and where somebody else handles Ctrl-C.

    Attributes
    ----------
    pressed : bool
        Whether Ctrl-C was pressed.
    """

    pressed = False

    def __enter__(self) -> Self:
        """Stand before Python's handler, or that of a context around this one."""
        self.grad, self.entered = torch.is_grad_enabled(), [count() for count, _ in MODES]
        self.before: Any = signal.getsignal(signal.SIGINT)
        outer = isinstance(getattr(self.before, "__self__", None), CtrlC)
        if (outer or self.before is signal.default_int_handler) and (
            threading.current_thread() is threading.main_thread()
        ):
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, signum: int, frame: Any) -> None:
        """Take note once, and step back: an interrupt may also keep `__exit__` from being run."""
        self.pressed = True
        signal.signal(signal.SIGINT, self.before)
        self.before(signum, frame)

    def check(self) -> None:
        """Raise what may have been lost."""
        if self.pressed:
            raise KeyboardInterrupt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave all as it was, and raise what was lost; an error is no answer to an interrupt."""
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self.before)
        if not self.pressed:
            return
        torch.set_grad_enabled(self.grad)
        for (count, leave), entered in zip(MODES, self.entered, strict=True):
            while count() > entered:
                leave()
        if error is None or isinstance(error, Exception):
            raise KeyboardInterrupt from error


# Of the method that `heeding_ctrl_c` has called last.
NOTING: contextvars.ContextVar[CtrlC] = contextvars.ContextVar("NOTING")


def heeding_ctrl_c(method: Method) -> Method:
    """Run a method in a `CtrlC`, and with it what stands around it, such as checks of parameters.

    The method finds the context by `noting`.
    """

    @functools.wraps(method)
    def heeding(*args: Any, **kwargs: Any) -> Any:
        with CtrlC() as ctrl_c:
            token = NOTING.set(ctrl_c)
            try:
                return method(*args, **kwargs)
            finally:
                NOTING.reset(token)

    return cast(Method, heeding)


def noting() -> CtrlC:
    """Return the context around a method, and raise what was lost on the way to it."""
    ctrl_c = NOTING.get()
    ctrl_c.check()
    return ctrl_c
