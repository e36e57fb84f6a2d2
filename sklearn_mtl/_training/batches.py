"""Rows of X, read by index: many at once, and handed out batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.fused import as_inputs
from sklearn_mtl._data.inputs import Source
from sklearn_mtl._data.on_disk import RowsOnDisk
from sklearn_mtl._predict import CHUNK_ROWS, Inputs
from sklearn_mtl._training.augmenting import Augmenter
from sklearn_mtl._training.by_row import TargetRows
from sklearn_mtl._training.group import ALONE, Group
from sklearn_mtl._training.recipe import DTYPES, Recipe
from sklearn_mtl._training.windows import shuffled_windows
from sklearn_mtl.losses import Cells

__all__ = ["Batches", "LeftOut", "Unlabelled"]

# Input values, or targets, that are read at once; a batch may have more.
READ_VALUES = 2**19
# Of rows that are read by blocks, and shuffled in memory.
WINDOW_BYTES = 2**27


class Own(NamedTuple):
    """Rows of a process among those of some batches.

    Attributes
    ----------
    places : ndarray of int
        Which rows of all.
    counts : ndarray of bool
        Whether a row counts: where there is none for this process, it takes one that does not.
    sizes : list of int
        How many there are of each batch.
    """

    places: NDArray[np.intp]
    counts: NDArray[np.bool_]
    sizes: list[int]

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.intp]], group: Group) -> Own | None:
        """Return the share of a process of batches; None if there is no other one."""
        if group.size == 1:
            return None
        sizes = [len(part) for part in parts]
        starts = np.cumsum([0, *sizes])
        shares = [np.arange(size)[group.share(size)] for size in sizes]
        counts = [np.full(max(1, len(share)), len(share) > 0) for share in shares]
        shares = [share if len(share) else np.zeros(1, dtype=np.intp) for share in shares]
        places = [start + share for start, share in zip(starts, shares, strict=False)]
        return cls(np.concatenate(places), np.concatenate(counts), list(map(len, shares)))


class Batches:
    """Rows of X read by index, with their targets and weights: data set and loader in one.

    Batches are of nearly equal size: no last batch of one row, on which batch statistics fail.

    Parameters
    ----------
    source : Source
        Samples by index.
    encoded : EncodedTargets
        Of all samples.
    rows : ndarray of int
        Rows to iterate over.
    recipe : Recipe
        Batch size, precision and device.
    order : numpy.random.Generator, optional
        Shuffles the rows anew in every pass; None keeps them in order.
    folds : ndarray of int, optional
        Fold of each of the rows; the member of an ensemble of that number leaves it out.
    n_folds : int, default=0
        Number of members.
    augmenter : Augmenter, optional
        Changes images and their targets at random, by numbers of `order`.
    group : Group, default=ALONE
        Of processes, each of which reads its share of the rows of each batch.
    """

    def __init__(
        self,
        source: Source,
        encoded: EncodedTargets,
        rows: NDArray[np.intp],
        recipe: Recipe,
        order: np.random.Generator | None = None,
        folds: NDArray[np.intp] | None = None,
        n_folds: int = 0,
        augmenter: Augmenter | None = None,
        group: Group = ALONE,
    ) -> None:
        self.dtype, self.device = DTYPES[recipe.precision], torch.device(recipe.device)
        self.inputs = Inputs(source, self.dtype, self.device)
        self.source, self.rows, self.batch_size = source, rows, recipe.batch_size
        everything = np.array_equal(rows, np.arange(len(encoded)))
        taken = encoded if everything else encoded.take(rows)
        self.targets = TargetRows(taken, self.dtype, self.device)
        self.folds, self.members = folds, None
        if folds is not None:  # the share of each member in the loss of a row
            sees = torch.from_numpy(folds[:, None] != np.arange(n_folds))
            self.members = (sees / (n_folds - 1)).to(self.device, self.dtype)
        self.order, self.augmenter, self.group = order, augmenter, group
        if order is not None and len(rows) // len(self) < group.size:
            raise ValueError(
                f"batch_size={recipe.batch_size} makes batches of {len(rows) // len(self)} rows, "
                f"of which {group.size} processes cannot each have one. Pass a larger one, or "
                "start fewer processes."
            )
        self.ahead = 1  # batches that are read at once; the first one shows how large they are

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.rows) / self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return what decides the next passes besides `order`: what is read at once."""
        return {"ahead": self.ahead}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as `state_dict` said."""
        self.ahead = state["ahead"]

    def __iter__(self) -> Iterator[tuple[Tensor, Cells]]:
        """Read the batches, in a new random order each time if there is a generator.

        Several small ones are read at once: what a read costs besides its rows is paid once. Rows
        on disk that stand in blocks are shuffled in windows of `WINDOW_BYTES`.
        """
        if self.order is not None and self.source.stored is not None:
            yield from self._by_windows(self.order, self.source.stored)
            return
        order = np.arange(len(self.rows))
        if self.order is not None:
            order = self.order.permutation(order)
        parts = np.array_split(order, len(self))
        for part in parts:
            part.sort()  # files and memory are read forwards
        together = list(self._together(parts))
        places = [np.concatenate(group) for group in together]
        own = [Own.of(group, self.group) for group in together]
        read = [
            taken if mine is None else taken[mine.places]
            for taken, mine in zip(places, own, strict=True)
        ]
        samples = self.inputs.parts(self.rows[taken] for taken in read)
        for group, taken, X, mine in zip(together, places, samples, own, strict=True):
            yield from self._batches(group, taken, X, mine)

    def _by_windows(
        self, order: np.random.Generator, stored: RowsOnDisk
    ) -> Iterator[tuple[Tensor, Cells]]:
        """Read blocks of rows, of many at once, so that shuffling reads none of them in vain."""
        blocks, n_rows = stored.blocks(self.rows), WINDOW_BYTES // self.source.row_bytes
        windows = shuffled_windows(blocks, len(self), n_rows, order)
        shares = [[part[self.group.share(len(part))] for part in window] for window in windows]
        places = [np.sort(np.concatenate(share)) for share in shares]
        read = self.source.parts(self.rows[place] for place in places)
        for window, place, samples in zip(windows, places, read, strict=True):
            for group in self._together(window):
                taken, mine = np.concatenate(group), Own.of(group, self.group)
                wanted = taken if mine is None else taken[mine.places]
                X = self.inputs.standardized(samples[np.searchsorted(place, wanted)])
                yield from self._batches(group, taken, X, mine)

    def _together(self, parts: Sequence[NDArray[np.intp]]) -> Iterator[Sequence[NDArray[np.intp]]]:
        """Say which batches are read at once."""
        done, n_values = 0, max(math.prod(self.source.shape), self.targets.shape[1])
        while done < len(parts):
            group = parts[done : done + self.ahead]
            yield group
            done += len(group)
            self.ahead = max(1, READ_VALUES // (len(group[-1]) * n_values))

    def _batches(
        self,
        parts: Sequence[NDArray[np.intp]],
        taken: NDArray[np.intp],
        X: Tensor,
        mine: Own | None,
    ) -> Iterator[tuple[Tensor, Cells]]:
        """Take apart what was read at once: X of all rows, or of those that are `mine`."""
        sizes = [len(part) for part in parts]
        index = torch.from_numpy(taken).to(self.device)
        target, weight, reaches = self.targets.take(index)
        complete = self.targets.complete
        if self.augmenter is not None and self.order is not None:
            places = None if mine is None else mine.places
            X, target, weight = self.augmenter(X, target, weight, self.order, places)
            complete = complete and bool(weight.all())
        counts = torch.stack([part.sum(dim=0) for part in weight.split(sizes)])
        lengths = torch.tensor(sizes, device=self.device)
        least = torch.finfo(self.dtype).tiny
        share = weight / counts.clamp_min(least).repeat_interleave(lengths, dim=0)
        if mine is not None:  # counts are those of all
            kept = torch.from_numpy(mine.places).to(self.device)
            index, target, weight, share = (t[kept] for t in (index, target, weight, share))
            reaches = None if reaches is None else reaches[kept]
            share = share * torch.from_numpy(mine.counts).to(share).unsqueeze(1)
            sizes = mine.sizes
        observed = [None] * len(parts) if complete else (weight > 0).split(sizes)
        own = None if self.members is None else self.members[index]
        members, reach = (
            [None] * len(parts) if part is None else part.split(sizes) for part in (own, reaches)
        )
        columns = target.split(sizes), observed, share.split(sizes), counts, members, reach
        yield from zip(X.split(sizes), map(Cells, *columns), strict=True)


class LeftOut:
    """Rows by fold, so that each member of an ensemble predicts those that it leaves out.

    Parameters
    ----------
    batches : Batches
        To train on.
    """

    def __init__(self, batches: Batches) -> None:
        assert batches.folds is not None
        assert batches.members is not None
        self.batches, n_folds = batches, batches.members.shape[1]
        sizes = np.bincount(batches.folds, minlength=n_folds)
        # Folds side by side; shorter ones are filled up with their first row, or any, unweighted.
        self.places = np.zeros((sizes.max(), n_folds), dtype=np.intp)
        self.filled = np.arange(sizes.max())[:, None] < sizes
        order = np.argsort(batches.folds, kind="stable")
        self.places.T[self.filled.T] = order
        self.whole: tuple[Tensor, Tensor, Tensor, Tensor | None] | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Read samples (b, M, *shape); targets, weights and reaches (b * M, n_tasks).

        Of several processes, each reads its share of them. So few that they are read at once are
        kept.
        """
        if self.whole is not None:
            yield self.whole
            return
        batches, n_folds = self.batches, self.places.shape[1]
        values = max(math.prod(batches.source.shape), batches.targets.shape[1] // 4)
        step = max(1, min(READ_VALUES // values, CHUNK_ROWS) // n_folds)
        starts = range(0, len(self.places), step)
        for start in starts[batches.group.rank :: batches.group.size]:
            places = self.places[start : start + step]
            rows, back = np.unique(batches.rows[places], return_inverse=True)
            X = batches.inputs(rows)[
                torch.from_numpy(back.reshape(places.shape)).to(batches.device)
            ]
            index = torch.from_numpy(places.ravel()).to(batches.device)
            filled = torch.from_numpy(self.filled[start : start + step].reshape(-1, 1))
            target, weight, reach = batches.targets.take(index)
            part = X, target, weight * filled.to(batches.device), reach
            self.whole = part if len(starts) == 1 else None
            yield part


class Unlabelled:
    """Batches of X as the estimator takes it, without targets, for a net that predicts."""

    def __init__(self, net: Any, X: Any) -> None:
        reader, rows = net.reader_, as_inputs(X)
        reader.check_names(X)
        reader.check_shape(rows)
        dtype = net.module_.heads.weight.dtype
        self.inputs = Inputs(reader.of(rows, to_predict=True), dtype, torch.device(net.device))
        self.n_rows, self.batch_size = rows.shape[0], net.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        """Read batch by batch."""
        starts = range(0, self.n_rows, self.batch_size)
        rows = (range(start, min(start + self.batch_size, self.n_rows)) for start in starts)
        yield from ((X, None) for X in self.inputs.parts(rows))
