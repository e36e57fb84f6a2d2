"""A fit with a seed gives the same bits, whatever stands around it, and leaves all of it alone."""

from __future__ import annotations

import contextlib
import decimal
import hashlib
import locale
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from _asserts import assert_random_states_untouched
from _inputs import make_table
from _saved import make
from _trials import several

from sklearn_mtl.networks import ConvTrunk, DenseTrunk

X, Y = make_table(40)
IMAGES = np.random.default_rng(0).normal(size=(40, 1, 6, 6)).astype(np.float32)
DENSE = DenseTrunk((4,), n_members=2, n_frequencies=1)

FITS: dict[str, Callable[[int], Any]] = {
    "fit": lambda seed: make(trunk=DENSE, random_state=seed).fit(X, Y),
    "fit until it is enough": lambda seed: make(
        trunk=DENSE, random_state=seed, max_epochs="auto", batch_size=20
    ).fit(X, Y),
    "fit with early stopping": lambda seed: make(
        trunk=DENSE, random_state=seed, early_stopping=True, max_epochs=3
    ).fit(X, Y),
    "partial_fit": lambda seed: (
        make(trunk=DENSE, random_state=seed).partial_fit(X, Y).partial_fit(X, Y)
    ),
    "images": lambda seed: make(trunk=ConvTrunk(2, 3), random_state=seed).fit(IMAGES, Y),
}


def answers(name: str, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est = FITS[name](seed)
    return est.predict(IMAGES if name == "images" else X)


# -- settings -------------------------------------------------------------------------------------


@contextlib.contextmanager
def setting(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """Set something of the process; in the end it must be as it was set, and is set back."""
    before = read()
    write(value)
    try:
        yield
        assert read() == value
    finally:
        write(before)


SETTINGS: dict[str, Callable[[], Any]] = {
    "default dtype": lambda: setting(
        torch.get_default_dtype, torch.set_default_dtype, torch.float64
    ),
    "default device": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic algorithms": lambda: setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "errors of numpy": lambda: np.errstate(all="raise", under="ignore"),
    "how numpy prints": lambda: np.printoptions(precision=1, threshold=2),
    "strings of pandas": lambda: pd.option_context("mode.string_storage", "python"),
    "output of scikit-learn": lambda: sklearn.config_context(transform_output="pandas"),
    "routing of scikit-learn": lambda: sklearn.config_context(enable_metadata_routing=True),
    "finite by assumption": lambda: sklearn.config_context(assume_finite=True),
    "decimals": lambda: decimal.localcontext(decimal.Context(prec=2)),
    "depth of recursion": lambda: setting(
        sys.getrecursionlimit, sys.setrecursionlimit, sys.getrecursionlimit() * 2
    ),
    "who takes turns": lambda: setting(sys.getswitchinterval, sys.setswitchinterval, 0.5),
    "locale": lambda: setting(
        lambda: locale.setlocale(locale.LC_ALL), lambda v: locale.setlocale(locale.LC_ALL, v), "C"
    ),
    "time zone": lambda: setting(lambda: os.environ.get("TZ", ""), _zone, "Asia/Tokyo"),
}


def _zone(name: str) -> None:
    os.environ["TZ"] = name
    time.tzset()


@several("fits under other settings", few=10, many=200)
def test_a_seeded_fit_does_not_depend_on_settings(trials):
    known: dict[Any, np.ndarray] = {}
    for rng in trials:
        name, seed = list(FITS)[rng.integers(len(FITS))], int(rng.integers(3))
        if (name, seed) not in known:
            known[name, seed] = answers(name, seed)
        chosen = rng.choice(list(SETTINGS), size=rng.integers(1, 4), replace=False)
        for seed_all in (random.seed, torch.manual_seed, np.random.seed):
            seed_all(int(rng.integers(1000)))
        with contextlib.ExitStack() as stack:
            for each in chosen:
                stack.enter_context(SETTINGS[each]())
            with assert_random_states_untouched():
                found = answers(name, seed)
        np.testing.assert_array_equal(found, known[name, seed], err_msg=f"{name}, {chosen}")
        trials.saw(name)


# -- company --------------------------------------------------------------------------------------


def draw() -> None:
    torch.randn(3)
    np.random.normal(size=3)  # noqa: NPY002
    random.random()


def fit_another() -> None:
    answers("fit", 77)


@several("fits beside other threads", few=3, many=100)
def test_a_seeded_fit_does_not_depend_on_other_threads(trials):
    known = {name: answers(name, 5) for name in FITS}
    for rng in trials:
        name = list(FITS)[rng.integers(len(FITS))]
        act, stop = [draw, fit_another][rng.integers(2)], threading.Event()

        def others(act=act, stop=stop):
            while not stop.is_set():
                act()

        threads = [threading.Thread(target=others) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            found = answers(name, 5)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        np.testing.assert_array_equal(found, known[name], err_msg=f"{name} beside {act.__name__}")
        trials.saw(f"beside {act.__name__}")


SCRIPT = """
import hashlib, sys
sys.path[:0] = {path!r}
import torch; torch.set_num_threads(1)
from test_determinism import FITS, answers
print(hashlib.sha256(b"".join(answers(n, 3).tobytes() for n in FITS)).hexdigest())
"""


@several("fits in processes of their own", few=0, many=6)
def test_a_seeded_fit_is_the_same_in_every_process(trials):
    """With other seeds of hashes, optimised bytecode, encodings and folders."""
    seen = set()
    path = [str(Path(__file__).parent), *sys.path]
    for rng in trials:
        env = {
            **os.environ,
            "PYTHONHASHSEED": str(rng.integers(1, 1000)),
            "PYTHONOPTIMIZE": str(rng.integers(2)),
            "PYTHONUTF8": str(rng.integers(2)),
            "LC_ALL": "C",
        }
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(path=path)]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, cwd="/", check=False)
        assert ran.returncode == 0, ran.stderr
        seen.add(ran.stdout)
    mine = hashlib.sha256(b"".join(answers(n, 3).tobytes() for n in FITS)).hexdigest()
    assert seen == {f"{mine}\n"}
