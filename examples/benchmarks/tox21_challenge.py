"""The Tox21 challenge as its organisers scored it: twelve assays, 647 compounds held out.

.. code-block:: bash

   python examples/benchmarks/tox21_challenge.py --data DIR --smiles FILE --results FILE --seeds 3

Training rows are those of the folder ``DIR/tox21`` (MoleculeNet's edition of the challenge's data,
in the format of `real_data.py`, with arrays ``smiles``, ``desc`` and fingerprints), but for
compounds that are in the test set too, told by the skeletons of their InChI keys. The test set is
the challenge's own: ``tox21_10k_challenge_score.smiles`` and ``.txt``, which the organisers
published afterwards. X is 212 descriptors, 1,024 bits of Morgan fingerprints, or both, made by
RDKit (``pip install rdkit``) in the same way for all rows. No choice was made on the test set.

The tables show the area under the ROC curve per assay, for one joint network with all defaults (the
mean over seeds), a network per assay and boosted trees per assay; and means that others published,
who had more training rows (up to 12,060 samples, several of one compound). The script fails (exit
code 1) if the joint network's mean is below that of either beside it by more than 0.01.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from quality import find_method, open_data, task_scores
from real_data import DataSet

METHODS = {"joint": "joint", "separate": "a network each", "hgb": "trees"}
MARGIN = 0.01
PUBLISHED = {  # means over the twelve assays on the same 647 compounds
    "DeepTox (Mayr et al. 2016)": 0.846,
    "self-normalising network (Klambauer et al. 2017)": 0.844,
    "random forest (Tox21 leaderboard 2026)": 0.829,
    "XGBoost (same)": 0.823,
    "Chemprop (same)": 0.815,
    "TabPFN (same)": 0.807,
}


def read(folder: Path, smiles: Path, results: Path) -> tuple[DataSet, int]:
    """Return training and test rows as one data set with a split, and the number left out."""
    data = open_data(folder, "tox21:desc", None)
    with np.load(folder / "tox21" / "data.npz", allow_pickle=False) as archive:
        bits, known = archive["X"], archive["smiles"]
    test = pd.read_csv(smiles, sep="\t").rename(columns={"#SMILES": "SMILES"})
    truth = pd.read_csv(results, sep="\t", na_values="x").set_index("Sample ID")
    names = [task.name for task in data.tasks]
    y = truth.loc[test["Sample ID"], names].astype(float).reset_index(drop=True)
    molecules = [_molecule(text) for text in test["SMILES"]]
    descriptors, test_bits = featurise(molecules, list(data.X.columns), bits.shape[1])
    held_out = {_skeleton(m) for m in molecules} - {""}
    kept = np.array([_skeleton(_molecule(text)) not in held_out for text in known])
    X = np.concatenate([np.c_[data.X, bits][kept], np.c_[descriptors, test_bits]])
    columns = [*data.X.columns, *(f"bit {i}" for i in range(bits.shape[1]))]
    frame = pd.DataFrame(np.where(np.abs(X) < 1e30, X, np.nan), columns=columns)
    targets = pd.concat([data.y.loc[kept, names].astype(float), y], ignore_index=True)
    split = np.repeat(["train", "test"], [kept.sum(), len(y)])
    return DataSet("tox21", frame, targets, data.tasks, [], split, None), int((~kept).sum())


def _molecule(text: str) -> Any:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    return Chem.MolFromSmiles(text)


def _skeleton(molecule: Any) -> str:
    """Return what is the same for stereoisomers, isotopes and states of charge."""
    from rdkit import Chem

    return "" if molecule is None else str(Chem.MolToInchiKey(molecule))[:14]


def featurise(
    molecules: Sequence[Any], names: Sequence[str], n_bits: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return descriptors (n, d) and fingerprints (n, n_bits).

    Of what RDKit cannot read, descriptors are NaN, which medians replace, and no bit is set.
    """
    from rdkit.Chem import Descriptors, rdFingerprintGenerator

    functions = dict(Descriptors.descList)
    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=n_bits)
    descriptors, bits = (
        np.full((len(molecules), len(names)), np.nan),
        np.zeros((len(molecules), n_bits)),
    )
    for i, molecule in enumerate(molecules):
        if molecule is not None:
            descriptors[i] = [functions[name](molecule) for name in names]
            bits[i] = morgan.GetFingerprintAsNumPy(molecule)
    return descriptors, bits


def scores_of(method: str, data: DataSet, seeds: int) -> tuple[NDArray[np.float64], float]:
    """Return AUCs per task, means over seeds, and seconds of one fit with predictions."""
    train, test = (np.flatnonzero(data.split == part) for part in ("train", "test"))
    run: Callable[..., dict[str, Any]] = find_method(method)
    found, start = [], time.perf_counter()
    for seed in range(seeds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = task_scores(data, test, run(data, train, test, seed))
        found.append([scores[task.name] for task in data.tasks])
        print(f"{method} {seed}: {np.mean(found[-1]):.4f}", file=sys.stderr, flush=True)
    return np.mean(found, axis=0), (time.perf_counter() - start) / seeds


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if the joint network is below what stands beside it."""
    parser = argparse.ArgumentParser(description="Score the Tox21 challenge.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--smiles", type=Path, required=True, metavar="FILE")
    parser.add_argument("--results", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--n-threads", type=int, default=1, help="threads of torch")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.n_threads)
    data, n_same = read(args.data, args.smiles, args.results)
    n_train, n_test = (data.split == "train").sum(), (data.split == "test").sum()
    of_bits = data.X.columns.str.startswith("bit ")
    inputs = {
        "descriptors and fingerprints": data,
        "descriptors": dataclasses.replace(data, X=data.X.loc[:, ~of_bits]),
        "fingerprints": dataclasses.replace(data, X=data.X.loc[:, of_bits]),
    }
    found = {
        (name, m): scores_of(m, part, args.seeds if m == "joint" else 1)
        for name, part in inputs.items()
        for m in METHODS
    }
    print(
        "$ python examples/benchmarks/tox21_challenge.py --data DIR --smiles FILE --results FILE "
        f"--seeds {args.seeds}\n\n{n_train} training rows ({n_same} compounds of the test set left "
        f"out), {n_test} test rows; AUC"
    )
    width, failed = max(map(len, PUBLISHED)), []
    for name in inputs:
        print(f"\n{name:{width}}", *(f"{label:>15}" for label in METHODS.values()))
        for k, task in enumerate(data.tasks):
            print(f"{task.name:{width}}", *(f"{found[name, m][0][k]:15.3f}" for m in METHODS))
        means = {m: float(found[name, m][0].mean()) for m in METHODS}
        print(f"{'mean':{width}}", *(f"{means[m]:15.3f}" for m in METHODS))
        print(f"{'seconds':{width}}", *(f"{found[name, m][1]:15.0f}" for m in METHODS))
        failed += [f"{name}: {m}" for m in METHODS if means["joint"] < means[m] - MARGIN]
    print("\npublished, by their authors' features")
    for name, mean in PUBLISHED.items():
        print(f"{name:{width}} {mean:15.3f}")
    print(f"\n{'FAILED: below ' + ', '.join(failed) if failed else 'passed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
