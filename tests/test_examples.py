"""Examples that are run by hand: a server, and searches on clusters."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import DenseTrunk

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(port: int, rows: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps({"rows": rows}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.filterwarnings("ignore")  # of servers, which are not ours
def test_a_server_answers_eight_clients_rightly(tmp_path: Path) -> None:
    for name in ("fastapi", "uvicorn", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    import uvicorn

    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 3)).astype(np.float32)
    y = np.column_stack([X[:, 0] > 0, X[:, 1]])
    tasks = [Task("broken", "classification"), Task("cost", "regression")]
    trunk = DenseTrunk((8,), n_members=1, n_frequencies=0)
    estimator = MultiTaskCNNEstimator(tasks, trunk=trunk, max_epochs=2, random_state=0).fit(X, y)
    estimator.to_onnx(tmp_path / "parts.onnx")
    app = load("serve_fastapi").make_app(str(tmp_path / "parts.onnx"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        cost, proba = estimator.predict(X)[:, 1], estimator.predict_proba(X)

        def check(at: int) -> None:
            n = 1 + at % 5  # single rows, and batches
            answer = ask(port, X[at : at + n].tolist())
            np.testing.assert_allclose(answer["cost"], cost[at : at + n], rtol=1e-4, atol=1e-5)
            found = [list(p.values()) for p in answer["broken"]]
            np.testing.assert_allclose(found, proba[at : at + n], atol=1e-5)

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(check, list(range(56)) * 2))
        for rows in ([], [[1.0]], [["a", "b", "c"]]):
            with pytest.raises(urllib.error.HTTPError, match="422"):
                ask(port, rows)
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.mark.benchmarks  # it starts clusters
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_search_on_a_cluster_is_that_of_one_process(name: str) -> None:
    pytest.importorskip("distributed" if name == "dask" else name)
    example = load(f"cluster_search_{name}")
    on_cluster, local = example.main(max_epochs=1), example.make_search(max_epochs=1)
    local.fit(*example.make_data())
    for score in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(on_cluster.cv_results_[score], local.cv_results_[score])
