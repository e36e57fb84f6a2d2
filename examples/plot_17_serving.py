"""
Save, load and serve
====================

A fitted network goes into one file that holds data and no code, comes back with the same bits, and
leaves Python as an ONNX graph. Behind transformers, a whole pipeline is one file of joblib.
"""

# %%
# A fitted network
# ----------------

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from sklearn_mtl import MultiTaskCNNEstimator, Task, predict_frame

rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(1000, 4)), columns=["width", "height", "depth", "weight"])
broken = rng.random(1000) < 1 / (1 + np.exp(-2 * X["width"]))
y = pd.DataFrame(
    {
        "broken": np.where(broken, "yes", "no"),
        "repair": np.where(broken, np.exp(X["depth"]) * rng.gamma(5, 4, 1000), np.nan),
    }
)
tasks = [Task("broken", "classification"), Task("repair", "gamma", given=("broken", "yes"))]
est = MultiTaskCNNEstimator(tasks, random_state=0).fit(X, y)
temporary = TemporaryDirectory()
folder = Path(temporary.name)

# %%
# One file, no code
# -----------------
# ``save`` writes weights and parameters as plain data, so that a file from a stranger is data too.

est.save(folder / "parts.safetensors")
loaded = MultiTaskCNNEstimator.load(folder / "parts.safetensors")
print("same bits:", (loaded.predict_frame(X) == est.predict_frame(X)).all().all())
print(f"{(folder / 'parts.safetensors').stat().st_size / 1024:.0f} KB")

# %%
# A pipeline
# ----------
# With transformers before the network, joblib saves the whole. That is a pickle: it is code, so
# load only what you wrote yourself.

pipeline = make_pipeline(SimpleImputer().set_output(transform="pandas"), est).fit(X, y)
joblib.dump(pipeline, folder / "pipeline.joblib")
again = joblib.load(folder / "pipeline.joblib")
print(predict_frame(again, X.head(3)).round(2), "\n")

# %%
# Where there is no Python
# ------------------------
# ``to_onnx`` writes a graph that takes X as it is. Standardisation is inside, and each task is an
# output by its name. It needs ``pip install "sklearn-mtl[onnx]"``; any ONNX runtime runs it::
#
#     est.to_onnx("parts.onnx")
#     session = onnxruntime.InferenceSession("parts.onnx")
#     broken, repair = session.run(["broken", "repair"], {"X": X.to_numpy("float32")})

# %%
# One row, or many
# ----------------
# A server loads the file once, and answers with ``predict_frame``. Rows together are far cheaper
# than one by one.

sizes, seconds = (1, 10, 100, 1000), []
for n in sizes:
    rows = X.iloc[:n]
    times = []
    for _ in range(20):
        start = perf_counter()
        loaded.predict_frame(rows)
        times.append(perf_counter() - start)
    seconds.append(np.median(times))
figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
axis.loglog(sizes, 1000 * np.array(seconds), "o-", label="call")
axis.loglog(sizes, 1000 * np.array(seconds) / sizes, "s--", label="row")
axis.set(xlabel="rows in a call", ylabel="milliseconds", title="Time per call and per row")
axis.legend(frameon=False)
plt.show()
temporary.cleanup()
