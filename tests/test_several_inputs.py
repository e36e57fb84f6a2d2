"""Several inputs from end to end: fits, searches, views, files, graphs."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
from sklearn_mtl._data.geometry import Geometry
from sklearn_mtl._training.augmenting import Augmenter, Images, Moving
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.datasets import MultiInput, make_digit_scenes
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, Fusion
from sklearn_mtl.networks.conv import Shift

N = 60
IMAGES, SCENES = make_digit_scenes(N, size=16, random_state=0)
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(N, 3))
TABLE[:, 2] = TABLE[:, 2] > 0
Y = pd.DataFrame({"present": SCENES["digit_present"], "sum": SCENES["brightness"] + TABLE[:, 0]})
X = MultiInput(image=IMAGES, table=TABLE)
SPEC = Fusion({"image": ConvTrunk(width=2, n_features=8), "table": DenseTrunk((8,), 1)}, (8,))


def small(**params):
    given = {"trunk": SPEC, "max_epochs": 2, "random_state": 0}
    return MultiTaskCNNEstimator(**given | params)


def holed(share=3):
    """Each part is missing in some rows."""
    images, table = IMAGES.copy(), TABLE.copy()
    images[::share], table[1::share] = np.nan, np.nan
    return MultiInput(image=images, table=table)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(holed(), Y)


def test_a_single_part_is_that_input():
    one = small(trunk=Fusion({"image": ConvTrunk(width=2)}, ()))
    same, alone = MultiInput(image=IMAGES), small(trunk=ConvTrunk(width=2)).fit(IMAGES, Y)
    np.testing.assert_array_equal(one.fit(same, Y).predict(same), alone.predict(IMAGES))
    np.testing.assert_array_equal(one.embed(same), alone.embed(IMAGES))


def test_the_order_of_parts_says_nothing():
    swapped = MultiInput(table=TABLE, image=IMAGES)
    one, other = small().fit(X, Y), small().fit(swapped, Y)
    np.testing.assert_allclose(one.predict(X), other.predict(swapped), rtol=1e-5)
    np.testing.assert_array_equal(one.predict(X), one.predict(swapped))


def test_a_table_of_all_parts_is_the_same(fitted):
    flat = np.hstack([part.reshape(N, -1) for part in holed().parts.values()])
    other = small(input_shape={"image": (1, 16, 16), "table": (-1,)}).fit(flat, Y)
    np.testing.assert_array_equal(other.predict(flat), fitted.predict(holed()))
    np.testing.assert_array_equal(fitted.predict(flat), fitted.predict(holed()))


def test_a_weight_of_two_is_the_row_twice():
    weight = 1.0 + (np.arange(N) % 2)
    twice = np.repeat(np.arange(N), weight.astype(int))
    params = {"batch_size": 200, "precision": "float64", "trunk": clone(SPEC)}
    params["trunk"].set_params(image__max_shift=0)
    once = small(**params).fit(holed(), Y, weight)
    repeated = small(**params).fit(holed()[twice], Y.iloc[twice])
    np.testing.assert_allclose(once.predict(X), repeated.predict(X), rtol=1e-6)


def test_both_parts_are_needed_and_used():
    """One target is in the image, another in the table, and a third one is their product."""
    rng = np.random.default_rng(0)
    sign, number = rng.choice([-1, 1], 400), rng.normal(size=400)
    images = rng.normal(size=(400, 1, 8, 8)) + sign[:, None, None, None]
    both = MultiInput(image=images, table=number[:, None])
    y = np.column_stack([sign > 0, number, sign * number])
    est = MultiTaskCNNEstimator(trunk=Fusion({"image": ConvTrunk(4)}), random_state=0)
    scores = est.fit(both[:300], y[:300]).score_tasks(both[300:], y[300:])
    assert min(scores.values()) > 0.9, scores


def test_searches_and_folds():
    grid = {"trunk__image__width": [2, 3], "trunk__table__hidden_layer_sizes": [(4,)]}
    search = GridSearchCV(small(max_epochs=1), grid, cv=2).fit(holed(), Y)
    assert search.best_params_["trunk__table__hidden_layer_sizes"] == (4,)
    assert search.predict(holed()[:3]).shape == (3, 2)
    assert cross_val_predict(small(max_epochs=1), X, Y, cv=2).shape == (N, 2)


@pytest.mark.usefixtures("other_processes")
def test_folds_in_other_processes():
    scores = cross_validate(small(max_epochs=1), X, Y, cv=2, n_jobs=2)["test_score"]
    assert np.isfinite(scores).all()


def test_views_and_pickles(fitted):
    view = task_view(fitted, "present")
    np.testing.assert_array_equal(view.predict(X[:5]), fitted.predict(X[:5])[:, 0])
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.predict(holed()), fitted.predict(holed()))


@pytest.mark.parametrize("trunk", ["auto", SPEC, Fusion({"table": DenseTrunk((8,), 2)})])
def test_files_hold_all_of_it(trunk, tmp_path):
    est = small(trunk=trunk).fit(holed(), Y)
    est.save(tmp_path / "model.safetensors")
    again = MultiTaskCNNEstimator.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(holed()), est.predict(holed()))
    assert isinstance(again.trunk, Fusion)
    with pytest.raises(ValueError, match="has the parts"):
        again.predict(MultiInput(image=IMAGES))
    again.partial_fit(X, Y)


def test_modules_in_it_are_asked_for(tmp_path):
    trunk = Fusion({"table": nn.Sequential(nn.Linear(3, 4), nn.ReLU())})
    est = small(trunk=trunk).fit(holed(), Y)
    est.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="Pass the same one"):
        MultiTaskCNNEstimator.load(tmp_path / "model.safetensors")
    again = MultiTaskCNNEstimator.load(tmp_path / "model.safetensors", trunk=trunk)
    np.testing.assert_array_equal(again.predict(holed()), est.predict(holed()))


def test_a_module_takes_parts(fitted):
    module, some = fitted.as_module(), holed()
    parts = {name: torch.tensor(part, dtype=torch.float32) for name, part in some.parts.items()}
    expected = fitted.predict(some)[:, 1]
    np.testing.assert_allclose(module(parts)["sum"].detach(), expected, rtol=1e-4, atol=1e-5)
    flat = torch.cat([part.flatten(1) for part in parts.values()], dim=1)
    np.testing.assert_allclose(module(flat)["sum"].detach(), expected, rtol=1e-4, atol=1e-5)
    leaf = {name: part[:1].nan_to_num().requires_grad_() for name, part in parts.items()}
    grads = torch.autograd.grad(module(leaf)["sum"].sum(), list(leaf.values()))
    assert all(grad.abs().sum() > 0 for grad in grads)
    with pytest.raises(ValueError, match=r"X has the parts \['image'\]"):
        module({"image": parts["image"]})
    with pytest.raises(TypeError, match="Pass a dict of them"):
        module(3)


def test_a_module_knows_nothing_of_rows_that_lack_what_none_did(tmp_path):
    est, one = small().fit(X, Y), torch.tensor(TABLE, dtype=torch.float32)
    parts = {"image": torch.full((N, 1, 16, 16), torch.nan), "table": one}
    assert all(out.isnan().all() for out in est.as_module()(parts).values())
    parts["image"][1:] = torch.tensor(IMAGES[1:])
    found = est.as_module()(parts)["sum"].detach()
    assert found.isnan().tolist() == [True] + [False] * (N - 1)
    np.testing.assert_allclose(found[1:], est.predict(X)[1:, 1], rtol=1e-4, atol=1e-5)
    onnxruntime = pytest.importorskip("onnxruntime")
    est.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    out = session.run(["sum"], {name: part.numpy() for name, part in parts.items()})[0]
    np.testing.assert_allclose(out, found, rtol=1e-4, atol=1e-5)


def test_a_graph_has_an_input_for_each_part(fitted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    fitted.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [i.name for i in session.get_inputs()] == ["image", "table"]
    some = holed()[:7]
    out = session.run(["sum"], {n: np.float32(p) for n, p in some.parts.items()})[0]
    np.testing.assert_allclose(out, fitted.predict(some)[:, 1], rtol=1e-4, atol=1e-5)


def test_streams_may_lack_a_part_later():
    est = small().partial_fit(X, Y)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"X\['image'\] is missing in 20 of"):
            est.predict(holed())
        est.partial_fit(X, Y)
    est.partial_fit(holed(), Y)
    assert np.isfinite(est.predict(holed())).all()


def test_validation_data_and_intervals():
    est = small(early_stopping=True, max_epochs=3).fit(holed(), Y)
    assert est.predict_interval(holed(), 0.5).shape == (N, 2, 2)
    est = small().fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert np.isfinite(est.history_["valid_loss"]).all()
    with pytest.raises(ValueError, match=r"X_val\['image'\] is missing in .* in no row of fit"):
        small().fit(X, Y, X_val=holed(), y_val=Y)
    with pytest.raises(ValueError, match="X_val has the parts"):
        small().fit(X, Y, X_val=MultiInput(table=TABLE), y_val=Y)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precisions(precision):
    est = small(precision=precision).fit(holed(), Y)
    assert np.isfinite(est.predict(holed())).all()


def test_rows_of_parts_in_another_order_than_y_are_noticed():
    table = pd.DataFrame(TABLE).sample(frac=1, random_state=0)
    with pytest.warns(UserWarning, match=r"X\['table'\] and y have the same index"):
        small().fit(MultiInput(image=IMAGES, table=table), Y)


def test_pipelines_of_columns_make_flat_parts():
    table = pd.DataFrame(IMAGES.reshape(N, -1)).add_prefix("pixel")
    pixels = list(table.columns)
    table["size"], table["kind"] = TABLE[:, 0] * 1e3, np.array(list("abc"))[np.arange(N) % 3]
    columns = make_column_transformer(
        ("passthrough", pixels),
        (StandardScaler(), ["size"]),
        (OneHotEncoder(), ["kind"]),
        sparse_threshold=0,
    )
    pipeline = make_pipeline(columns, small(input_shape={"image": (1, 16, 16), "table": (-1,)}))
    assert pipeline.fit(table, Y).predict(table).shape == (N, 2)
    assert pipeline[-1].module_.trunk.parts[1].shape == (4,)


def test_images_are_augmented_where_they_stand():
    y = Y.assign(across=RNG.uniform(size=N))
    tasks = {"across": Task("across", "regression", geometry="x")}
    for augment in (None, Augment(brightness=0.2, cutout=0.2)):
        est = small(tasks=tasks, augment=augment).fit(holed(), y)
        assert np.isfinite(est.predict(holed())).all()
    two = MultiInput(left=IMAGES, right=IMAGES)
    with pytest.raises(ValueError, match=r"one image, but .* \['left', 'right'\] are images"):
        small(trunk="auto", augment=Augment(brightness=0.1)).fit(two, Y)
    small(trunk="auto").fit(two, Y)


def test_a_module_of_ones_own_gets_images_that_are_augmented():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift, self.layer = Shift((2, 2)), nn.Linear(256 + 3, 4)

        def forward(self, x):
            seen.append((self.training, self.shift.reach))
            return self.layer(x.nan_to_num())

    seen = []
    est = small(trunk=Own(), augment=Augment(brightness=0.2)).fit(holed(), Y)
    assert np.isfinite(est.predict(holed())).all()
    assert {reach for training, reach in seen if training} == {(0, 0)}


def test_nothing_moves_where_there_are_only_tables():
    y = Y.assign(across=RNG.uniform(size=N))
    tasks = {"across": Task("across", "regression", geometry="x")}
    tables = MultiInput(one=TABLE, other=TABLE)
    small(trunk="auto", tasks=tasks).fit(tables, y)
    with pytest.raises(ValueError, match="none are images"):
        small(trunk="auto", tasks=tasks, augment=Augment(brightness=0.1)).fit(tables, y)


def test_a_trunk_of_ones_own_that_knows_no_holes_is_told_of_them():
    """It is no fault of the learning rate."""
    flat = MultiInput(image=IMAGES[:, :1, :4, :4], table=TABLE)
    width = 16 + TABLE.shape[1]
    trunk = nn.Sequential(nn.Linear(width, 4), nn.ReLU())
    small(trunk=trunk).fit(flat, Y)
    table = TABLE.copy()
    table[::4] = np.nan
    lacking = MultiInput(image=flat["image"], table=table)
    with pytest.raises(ValueError, match=r"Rows lack the part 'table' of X, .* are NaN") as said:
        small(trunk=trunk).fit(lacking, Y)
    assert "learning_rate" not in str(said.value)


def test_augmented_parts_are_images_alone():
    X = torch.arange(2 * 7.0).view(2, 7)
    X[1, 2:6] = torch.nan
    images = Images((1, 2, 2), "image", 2)
    found = images.replaced(X, images.of(X) + 100)
    assert found[0].tolist() == [0, 1, 102, 103, 104, 105, 6]
    torch.testing.assert_close(found[1], X[1], equal_nan=True)


def test_places_stay_where_the_image_is_missing():
    """What is not there has not moved, and neither has a target that says where."""
    moving = [Moving(0, Geometry.of("x"), 1.0, 0.0)]
    images = Images((1, 4, 4), "image", 1)
    augmenter = Augmenter(Augment(flip="horizontal"), moving, [(0, None)], images)
    X = torch.rand(64, 17)
    X[::2, 1:] = torch.nan
    target, weight = torch.full((64, 1), 0.25), torch.ones(64, 1)
    found, moved, _ = augmenter(X, target, weight, np.random.default_rng(0))
    assert (moved[::2] == 0.25).all()
    assert set(moved[1::2, 0].tolist()) == {0.25, 0.75}
    assert found[::2, 1:].isnan().all()
    assert not found[1::2].isnan().any()
    torch.testing.assert_close(found[:, 0], X[:, 0])


@pytest.mark.parametrize(
    ("X", "params", "match"),
    [
        (X, {"trunk": "conv"}, "trunk=ConvTrunk.* is for one input"),
        (X, {"trunk": Fusion({"picture": "conv"})}, "which are no parts of X"),
        (IMAGES, {}, "is for several inputs, but X has samples of shape"),
        (X, {"input_shape": {"image": (2, 2)}}, "Part 'image' of X: input_shape"),
        (X, {"input_shape": {"table": 3}}, "input_shape"),
        (X[:5], {}, "inconsistent numbers of samples, 5 and 60"),
        ({"image": IMAGES, "table": TABLE}, {}, r"MultiInput\(\*\*X\)"),
        ([IMAGES, TABLE], {}, "MultiInput"),
    ],
)
def test_bad_input_is_named(X, params, match):
    with pytest.raises(ValueError, match=match):
        small(**params).fit(X, Y)
