"""What has to be true of a wheel or an sdist before it is published. Needs Python alone.

    python .ci/gate.py dist/*          # each in an empty environment: train, save, load, predict
    python .ci/gate.py --tag v0.1.0    # the tag is the version, and the version has its changes

pip reads PIP_CONSTRAINT, such as constraints-lowest.txt, for versions of what is installed besides.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

FIT = """
import importlib.metadata, importlib.resources
import numpy as np
import sklearn_mtl
from sklearn_mtl import MultiTaskCNNEstimator, Task

assert importlib.metadata.version("sklearn-mtl") == sklearn_mtl.__version__
assert importlib.resources.files("sklearn_mtl").joinpath("py.typed").is_file()

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5))
defect = np.where(X[:, 0] > 0, "yes", "no").astype(object)
size = np.where(defect == "yes", 3 + X[:, 1], np.nan)
defect[::10], size[::10] = None, np.nan
y = np.column_stack([defect, size])
tasks = [Task("defect", "classification"), Task("size", "regression", given=("defect", "yes"))]
estimator = MultiTaskCNNEstimator(tasks, random_state=0).fit(X, y)
assert estimator.score(X, y) > 0.8, estimator.score(X, y)
estimator.save("model.safetensors")
np.savez("seen.npz", X=X, size=estimator.predict_frame(X)["size"].to_numpy(float),
         probability=estimator.predict_proba(X)[0])
images = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(
    rng.normal(size=(20, 8, 8)), rng.normal(size=(20, 2))
)
assert images.predict(rng.normal(size=(3, 8, 8))).shape == (3, 2)
print("sklearn_mtl", sklearn_mtl.__version__, "trained and saved")
"""

PREDICT = """
import sys
import numpy as np
from sklearn_mtl import MultiTaskCNNEstimator

loaded = MultiTaskCNNEstimator.load("model.safetensors")
seen = np.load("seen.npz")
frame = loaded.predict_frame(seen["X"])
assert list(frame) == ["defect", "size"]
np.testing.assert_array_equal(frame["size"].to_numpy(float), seen["size"])
np.testing.assert_array_equal(loaded.predict_proba(seen["X"])[0], seen["probability"])
optional = {"matplotlib", "PIL", "onnx", "onnxscript", "timm", "torchjd", "tabm"}
assert not optional & set(sys.modules), optional & set(sys.modules)
print("sklearn_mtl loaded, and predicts the same bits")
"""


def check_archive(archive: Path) -> None:
    """Install an archive in an empty environment, and use it there in two processes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment, empty = Path(folder, "environment"), Path(folder, "empty")
        empty.mkdir()
        venv.create(environment, with_pip=True)
        bin_, suffix = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
        python = environment / bin_ / f"python{suffix}"
        outside = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        if constraint := outside.get("PIP_CONSTRAINT"):
            outside["PIP_CONSTRAINT"] = str(Path(constraint).resolve())

        def run(*arguments: str | Path) -> None:
            subprocess.run([python, *arguments], check=True, cwd=empty, env=outside)

        run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", archive.resolve())
        run("-m", "pip", "check", "--disable-pip-version-check")
        run("-W", "error", "-c", FIT)
        run("-W", "error", "-c", PREDICT)


def version() -> str:
    """Return the version, from the only place where it is written for the package."""
    text = (ROOT / "sklearn_mtl" / "__init__.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)
    return found


def faults_of_tag(tag: str) -> list[str]:
    """Return what has to be mended before a tag is a release."""
    expected = version()
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    faults = []
    if tag != f"v{expected}":
        faults.append(f"The tag is {tag}, and sklearn_mtl.__version__ is {expected}.")
    heading = rf"^## \[{re.escape(expected)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, changelog, flags=re.MULTILINE):
        faults.append(f"CHANGELOG.md has no section '## [{expected}] - YEAR-MONTH-DAY'.")
    if f"\nversion: {expected}\n" not in citation:
        faults.append(f"CITATION.cff has another version than {expected}.")
    return faults


def main() -> None:
    """Check what the command line names; exit with what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("archives", nargs="*", type=Path, help="a wheel, an sdist")
    parser.add_argument("--tag", help="compare a tag with the version and the changelog")
    arguments = parser.parse_args()
    if not (arguments.archives or arguments.tag):
        parser.error("name archives, or a --tag.")
    if arguments.tag and (faults := faults_of_tag(arguments.tag)):
        sys.exit("\n".join(faults))
    for archive in arguments.archives:
        print(f"{archive.name}:", flush=True)
        check_archive(archive)


if __name__ == "__main__":
    main()
