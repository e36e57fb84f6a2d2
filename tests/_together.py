"""Processes that train together: how tests start them, and fits whose results are compared."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from sklearn_mtl import MultiTaskCNNEstimator, Task, data_parallel, to_intervals
from sklearn_mtl._training import group
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.datasets import MultiInput
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

SEED = 6


# Processes are forked from one that has imported all that takes long, where the system forks.
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
STARTS = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    PRELOADED = ["pytest", "sklearn.pipeline", "sklearn_mtl._estimator"]
    STARTS.set_forkserver_preload([*PRELOADED, "torch._dynamo"])  # which optimizers import


def launch(n_processes, name, tmp_path, **env):
    """Call a function of this file in several processes; return what each returned or raised."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n_processes),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    paths = [tmp_path / f"{name}_{rank}.pickle" for rank in range(n_processes)]
    started = [
        STARTS.Process(target=main, args=(name, path, env | {"RANK": str(rank)}))
        for rank, path in enumerate(paths)
    ]
    try:
        for process in started:
            process.start()
        for process in started:
            process.join(timeout=400)
    finally:
        for process in started:
            process.kill()
    return [
        pickle.loads(path.read_bytes()) if path.exists() else process.exitcode
        for process, path in zip(started, paths, strict=True)
    ]


# -- data ----------------------------------------------------------------------------------------


def table(n=61, seed=SEED):
    rng = np.random.default_rng(seed)
    X = rng.normal([0, 5, -3, 0], [1, 9, 0.1, 1], size=(n, 4))
    return X, np.column_stack([X[:, 0] > 0, X[:, 0] + X[:, 1], rng.normal(size=n) - X[:, 2]])


def with_holes(y, share=0.9):
    """Holes all over; two targets of the last task are left, which are of one process at a time."""
    rng = np.random.default_rng(SEED)
    y = np.where(rng.random(y.shape) < share, np.nan, y.astype(float))
    y[:2, :2], y[2:4, 0] = [[0, 1.5], [1, -2.0]], [0, 1]
    y[:, 2] = np.nan
    y[[5, 40], 2] = [0.3, -1.0]
    return y


def images(n=30, side=8):
    rng = np.random.default_rng(SEED)
    X = rng.normal(size=(n, 1, side, side)).astype(np.float32)
    return X, np.column_stack([X[:, 0, 2, 3] > 0, rng.uniform(-0.5, side - 0.5, n)])


def made(**params):
    params = {"max_epochs": 3, "batch_size": 16, "precision": "float64"} | params
    params = {"trunk": DenseTrunk((16,))} | params
    return MultiTaskCNNEstimator(**{"random_state": 0} | params)


def said_by(estimator, X):
    """All that a fit has to say, as one array for each kind of thing."""
    found = {"predictions": estimator.predict(X), "weights": estimator.task_weights_}
    found |= {f"history {name}": rows for name, rows in estimator.history_.items()}
    found["noise"] = estimator.noise_std_
    found["state"] = np.concatenate(
        [np.ravel(value.double().numpy()) for value in estimator.module_.state_dict().values()]
    )
    if hasattr(estimator, "oob_prediction_"):
        found["out of bag"] = estimator.oob_prediction_
        found["interval"] = np.ravel(estimator.predict_interval(X))
    return found


def fitted(X, y, *args, **params):
    keys = ("sample_weight", "groups", "X_val", "y_val")
    told = {name: params.pop(name) for name in keys if name in params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few rows
        return said_by(made(**params).fit(X, y, *args, **told), X)


# -- fits that are the same in any number of processes -------------------------------------------


def smoothed(losses, counts):
    return (losses[counts > 0] + 0.1).log().sum()


def at_random(losses):
    return losses.dot(torch.rand(len(losses), dtype=losses.dtype))


def of_losses():
    losses = {
        **{name: name for name in ("logprod", "weighted", "masked_mse", "uncertainty")},
        "of the batch": LogProd(decay=None),
        "callable": smoothed,
        "at random": at_random,
    }
    X, y = table()
    trunk = DenseTrunk((16,), n_members=1)
    for name, loss in losses.items():
        yield f"loss {name}", functools.partial(fitted, X, y, loss=loss, trunk=trunk)
        yield f"holes {name}", functools.partial(fitted, X, with_holes(y), loss=loss, trunk=trunk)


def of_training():
    X, y = table()
    yield "folds left out", lambda: fitted(X, with_holes(y, 0.2), max_epochs=6)
    auto = {"max_epochs": "auto", "learning_rate": 0.03}
    yield "the data say when to stop", lambda: fitted(X, y, **auto)
    tails = np.sinh(2 * (X - X.mean(axis=0)) / X.std(axis=0))
    sums = np.column_stack([tails @ [1, -1, 0, 1], y[:, 2]])
    yield "inputs that are not clipped", lambda: fitted(tails, sums)
    few = {"learning_rate": 0.1, "batch_size": 80, "net_params": {"optimizer__max_iter": 5}}
    yield "LBFGS", lambda: fitted(X, y, optimizer="LBFGS", **few)
    early = {"early_stopping": True, "max_epochs": 20, "n_iter_no_change": 1, "learning_rate": 0.1}
    yield "early stopping", lambda: fitted(X, y, validation_fraction=0.1, **early)
    weight = np.random.default_rng(1).integers(0, 4, y.shape)
    yield "weights", lambda: fitted(X, y, sample_weight=weight, task_weights="n_observed")
    groups = np.arange(61) // 3
    yield "groups", lambda: fitted(X, y, groups=groups, head_hidden_units=3)
    yield "validation", lambda: fitted(X, y, X_val=X[:2], y_val=y[:2], **early)
    bounds = to_intervals(["<1", "2", "3.5", ">4", "1"] * 12 + ["2"])
    yield "bounds", lambda: fitted(X, bounds, trunk=DenseTrunk(n_members=1))
    yield "stream", stream
    yield "pipeline", lambda: {"predictions": piped(X, y)}


def of_images():
    pictures, z = images()
    plain = {"trunk": ConvTrunk(max_shift=0), "batch_size": 7}
    yield "images", lambda: fitted(pictures, z, **plain)
    yield (
        "standardize",
        lambda: fitted(
            np.clip(9 * pictures.repeat(3, axis=1) + 99, 0, 255), z, standardize="imagenet", **plain
        ),
    )
    moving = [Task("there", "classification"), Task("x", "regression", geometry=("x", -0.5, 7.5))]
    augment = Augment(shift=0.3, flip="horizontal", brightness=0.1, contrast=0.2, cutout=0.3)
    yield "augment", lambda: fitted(pictures, z, tasks=moving, augment=augment, **plain)
    lacking = table(30)[0]
    lacking[3] = np.nan
    parts = MultiInput(image=pictures, table=lacking)
    yield "several inputs", lambda: fitted(parts, z, batch_size=8, trunk="auto")


def stream():
    X, y = table()
    estimator = made()
    for rows in np.array_split(np.arange(61), 3):
        estimator.partial_fit(X[rows], y[rows], classes={"y0": [0, 1]})
    return said_by(estimator, X)


def piped(X, y):
    return make_pipeline(StandardScaler(), made()).fit(X, y).predict(X)


def same_fits(cases):
    """What is found in this process, or in all of them together."""
    return {name: fit() for name, fit in cases}


def losses_of_both():
    return same_fits(of_losses())


def training_of_both():
    return same_fits(of_training())


def images_of_both():
    return same_fits(of_images())


# -- what differs from process to process ----------------------------------------------------------


class At(Callback):
    """Do something in one process, in some epoch."""

    def __init__(self, act=None, rank=1, epoch=2, event="on_batch_end"):
        self.act, self.rank, self.epoch, self.event = act, rank, epoch, event

    def on_batch_end(self, net, **kwargs):
        self._at(net, "on_batch_end")

    def on_epoch_end(self, net, **kwargs):
        self._at(net, "on_epoch_end")

    def _at(self, net, event):
        if net.group_ is None or event != self.event:
            return
        if net.group_.rank == self.rank and len(net.history) == self.epoch:
            self.act()


def fail():
    raise OverflowError("the moon is full")


def fail_once():
    if "FAILED" not in os.environ:
        os.environ["FAILED"] = "once"
        fail()


def stop():
    raise KeyboardInterrupt


def press():
    os.kill(os.getpid(), signal.SIGINT)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def told(act):
    """What a fit raises, or the number of epochs, once one process does something."""
    X, y = table()
    found = {}
    for event in ("on_batch_end", "on_epoch_end"):
        params = {"net_params": {"callbacks": [At(act, event=event)]}, "max_epochs": 4}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                estimator = made(**params).fit(X, y)
            found[event] = estimator.n_iter_, estimator.predict(X)
        except BaseException as error:
            found[event] = type(error), str(error)
    return found


def troubles():
    """Errors and stops of process 1, one after the other; in the end, all is well again."""
    rank = int(os.environ["RANK"])
    X, y = table()
    found = {"fail": told(fail), "stop": told(stop), "press": told(press)}

    def raised(act):
        try:
            act()
        except (ValueError, RuntimeError, TypeError, OSError) as error:
            return type(error), str(error)

    found["y"] = raised(lambda: made().fit(X, y + rank))
    found["X"] = raised(lambda: made().fit(X[:, : 4 - rank], y))
    found["parameter"] = raised(lambda: made(learning_rate=0.1 + rank).fit(X, y))
    found["seed"] = raised(lambda: made(random_state=rank).fit(X, y))
    found |= {f"differs: {what}": raised(act) for what, act in differing(rank, X, y)}
    found["small"] = raised(lambda: made(batch_size=1).fit(X, y))
    bad = X.copy()
    bad[55, 2] = np.nan  # which another process reads
    found["values"] = raised(lambda: made().fit(bad, y))
    seeds = [made(random_state=None).fit(X, y).predict(X) for _ in range(2)]
    found["fresh"] = seeds
    drops = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5))
    found["dropout"] = made(trunk=drops).fit(X, y).predict(X)
    norms = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    stop_early = {"early_stopping": True, "max_epochs": 9}
    found["batch norm"] = said_by(made(trunk=norms, **stop_early).fit(X, y), X)
    thread = threading.Thread(target=lambda: found.update(thread=raised(lambda: made().fit(X, y))))
    thread.start()
    thread.join()
    found["checkpoint"] = resumed(X, y)
    path = Path(os.environ["FOLDER"]) / "saved.safetensors"
    estimator = made().fit(X, y)
    if rank == 0:
        time.sleep(0.3)  # the others wait until it is there
    estimator.save(path)
    found["saved"] = MultiTaskCNNEstimator.load(path).predict(X), estimator.predict(X)
    if rank == 0:  # nobody else has to come
        estimator.save(path)
    found["messages"] = counted()
    found["no folder"] = raised(lambda: estimator.save(path / "below"))
    return found


def differing(rank, X, y):
    """What process 1 does otherwise than process 0, by what both are told."""
    names = [["a", "b", "c", "d"], ["a", "c", "b", "d"]][rank]
    yield "the names of columns of X", lambda: made().fit(pd.DataFrame(X, columns=names), y)
    parts = MultiInput(one=pd.DataFrame(X, columns=names), other=X)
    yield "the names of columns of X ", lambda: made().fit(parts, y)
    yield "the type of X", lambda: made().fit(X.astype(["f8", "f4"][rank]), y)
    labels = np.array([["no", "yes"], ["nein", "ja "]])[rank, (X[:, 0] > 0).astype(int)]
    yield "y, or its weights,", lambda: made().fit(X, labels)
    yield "groups", lambda: made().fit(X, y, groups=np.arange(61) // (3 + rank))
    for early in ({}, {"early_stopping": True}):
        start = made(**early)
        valid = {} if rank else {"X_val": X, "y_val": y}
        yield f"X_val, passed or not,{early or ''}", functools.partial(start.fit, X, y, **valid)
        fit = functools.partial(start.fit, X, y, X_val=X[rank:], y_val=y[rank:])
        yield f"the shape of X_val{early or ''}", fit
        fit = functools.partial(start.fit, X, y, X_val=X, y_val=np.add(y, [0, rank, 0]))
        yield f"y_val, or its weights,{early or ''}", fit
    either = [made().fit, made().partial_fit]
    yield "the method, fit or partial_fit,", lambda: either[rank](X, y)
    learned = "what was learned before, by fit or partial_fit,"
    warm = [made(random_state=seed, warm_start=True).fit(X, y) for seed in (0, 1)]
    mine = warm[rank].set_params(random_state=0)
    yield learned, lambda: mine.partial_fit(X, y)
    yield f"{learned} ", lambda: mine.fit(X, y)
    begun = [warm[0], made(warm_start=True)][rank]
    yield f"{learned}  ", lambda: begun.fit(X, y)


def resumed(X, y):
    """A fit that failed once, and went on; and one that did not."""
    path = Path(os.environ["FOLDER"]) / "fit.checkpoint"
    drops = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5))
    at = At(fail_once, epoch=3)
    keeping = made(max_epochs=5, checkpoint=path, checkpoint_every=0, trunk=drops)
    keeping.set_params(net_params={"callbacks": [at]})
    with contextlib.suppress(RuntimeError, OverflowError):
        keeping.fit(X, y)
    was_there = path.exists()
    went_on = keeping.fit(X, y).predict(X)
    unbroken = keeping.set_params(checkpoint=None).fit(X, y).predict(X)
    return was_there, path.exists(), went_on, unbroken


def killed():
    group.LAST_WORDS = 0.5
    return told(die)


def gone():
    """Process 1 leaves, and process 0 fits once more."""
    X, y = table()
    if os.environ["RANK"] == "1":
        raise OSError("no bread in the house")
    made().fit(X, y)


def main(name, path, env):
    """Do what `launch` says in a process of its own, and write what came of it."""
    os.environ.update(env)
    torch.set_num_threads(1)
    # Who was started in the background of a shell inherits that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    act = globals()[name]
    try:
        with data_parallel(timeout=200):
            result = act()
    except BaseException as error:
        result = type(error), str(error)
    path.write_bytes(pickle.dumps(result))


def torchrun(folder):
    """Start two processes as the command does, and wait until they are done."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        run_id="fits",
        # No further server, which would import all anew, where a fork is safe.
        start_method="fork" if sys.platform == "linux" else STARTS.get_start_method(),
    )
    elastic_launch(config, fit_and_save)(folder)


def fit_and_save(folder):
    """What does not differ from a script that is started without `torchrun`."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with data_parallel(timeout=60) as processes:
        estimator = made().fit(*table())
    estimator.save(folder / f"{processes.rank}_of_{processes.size}.safetensors")


def counted():
    """Messages of fits that differ by 10 epochs, of 4 steps each."""
    X, y = table()
    counts = []
    for epochs in (3, 3, 13):  # the first one connects
        before = messages()
        made(max_epochs=epochs, trunk=DenseTrunk(n_members=1)).fit(X, y)
        counts.append(messages() - before)
    return counts


def messages():
    return group.present_group().n_messages
