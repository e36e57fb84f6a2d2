"""A server: rows in JSON go in, and what each task predicts comes back.

The graph of `to_onnx` answers, by ONNX runtime, with one thread per call: requests are computed
side by side, and threads of one would be in the way of others. Run it by
``pip install "sklearn-mtl[serve]"`` and ``python examples/serve_fastapi.py``; then::

    curl -X POST http://127.0.0.1:8000/predict -H "Content-Type: application/json" \\
        -d '{"rows": [[0.5, -1.0, 2.0]]}'
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from sklearn_mtl import MultiTaskCNNEstimator, Task

MOST_ROWS = 10_000  # in one request


class Rows(BaseModel):
    """What a client sends."""

    rows: list[list[float]]


def make_app(path):
    """Make the app that answers by the graph in a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    width = session.get_inputs()[0].shape[1]
    names = [output.name for output in session.get_outputs()]
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    app = FastAPI()

    @app.post("/predict")
    def predict(sent: Rows):
        rows = sent.rows
        if not 0 < len(rows) <= MOST_ROWS or any(len(row) != width for row in rows):
            raise HTTPException(422, f"Send 1 to {MOST_ROWS} rows of {width} numbers.")
        found = session.run(names, {"X": np.array(rows, dtype=np.float32)})
        return {
            name: [dict(zip(classes[name], map(float, p), strict=True)) for p in values]
            if classes.get(name)
            else values.tolist()
            for name, values in zip(names, found, strict=True)
        }

    return app


def train():
    """Train on made-up parts: is one broken, and what does it cost to mend?"""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    broken = X[:, 0] > 0
    y = np.column_stack([broken, np.where(broken, X[:, 1], np.nan)])
    tasks = [Task("broken", "classification"), Task("cost", "regression", given=("broken", 1))]
    return MultiTaskCNNEstimator(tasks, random_state=0).fit(X, y)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "parts.onnx")
        train().to_onnx(path)
        app = make_app(path)
    uvicorn.run(app, host="127.0.0.1", port=8000)
