"""The tree of tasks, as text and as a diagram."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tree import TaskList

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
sick = np.arange(40) % 2 == 0
bad = np.where(sick, np.where(np.arange(40) % 4 == 0, "yes", "no"), None)
Y = pd.DataFrame(
    {
        "sick": np.where(sick, "<yes>", "no"),
        "size": np.where(sick, X[:, 0], np.nan),
        "bad": bad,
        "days": np.where(bad == "yes", X[:, 1], np.nan),
        "age": X[:, 2],
    }
)
Y.loc[Y.index[:5], "size"] = np.nan
TASKS = [
    Task("sick", "classification", threshold=0.25),
    Task("size", "regression", given=("sick", "<yes>")),
    Task("bad", "classification", given=("sick", ["<yes>"])),
    Task("days", "quantile", quantile=0.9, given=("bad", "yes")),
    Task("age", "regression"),
]
MODEL = MultiTaskCNNEstimator(tasks=TASKS, max_epochs=1, random_state=0).fit(X, Y)

TEXT = """\
task      kind            holds                   exists if      applies  observed
sick      classification  <yes>, no from 0.25 on                      40        40
├ size    regression                              sick is <yes>       20        17
└ bad     classification  no, yes                 sick is <yes>       20        20
  └ days  quantile                                bad is yes          10        10
age       regression                                                  40        40"""


def test_the_tree_is_text() -> None:
    assert str(MODEL.tasks_) == TEXT


def test_it_is_a_list_all_the_same() -> None:
    assert MODEL.tasks_ == TASKS
    assert repr(MODEL.tasks_) == repr(TASKS)
    assert str(pickle.loads(pickle.dumps(MODEL.tasks_))) == TEXT
    assert str(MODEL.tasks_[:1]) == repr(TASKS[:1])


def test_notebooks_show_it_below_the_parameters() -> None:
    html = MODEL._repr_html_()
    assert html.endswith(MODEL.tasks_.to_html())
    assert "<b>size</b> regression <i>observed 17 of 20</i>" in html
    assert "<i>if sick is &lt;yes&gt;</i>" in html
    assert html.count("<ul class='mtl-tasks'>") == 1
    fresh = MultiTaskCNNEstimator(tasks=TASKS)
    assert "mtl-tasks" not in fresh._repr_html_()


@pytest.mark.parametrize("n_labels", [3, 4])
def test_many_labels_are_counted(n_labels: int) -> None:
    y = [f"label {k % n_labels}" for k in range(40)]
    model = MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, y)
    assert ("label 0, label 1, label 2" if n_labels == 3 else "4 classes") in str(model.tasks_)


def test_each_task_stands_on_one_line_and_bounds_are_named() -> None:
    y = pd.DataFrame(
        {
            "a\nb": np.array(["x\ty", "no", "no", "x\ty"], dtype=object),
            "low": [1.0, 2.0, np.nan, 3.0],
            "high": [1.0, np.nan, 2.0, 3.0],
        }
    )
    tasks = [
        Task("a\nb", "classification"),
        Task("dose", "regression", lower="low", upper="high"),
    ]
    encoder = TargetEncoder(tasks)
    encoder.fit_encode(y)
    shown = TaskList.of(encoder)
    _, first, second = str(shown).splitlines()
    assert first.split() == ["a\\nb", "classification", "no,", "x\\ty", "4", "4"]
    assert second.split() == ["dose", "regression", "low", "to", "high", "4", "4"]
    assert "low to high" in shown.to_html()
    assert "a\nb" not in shown.to_html()
