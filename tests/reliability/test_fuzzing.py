"""`load` under coverage-guided fuzzing, by atheris, where it is installed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from _files import samples
from _trials import several

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed"
)

# In a process of its own, which libFuzzer takes over. What it is given is sealed for three in four
# inputs, so that it gets past the checksum.
SCRIPT = """
import os, sys
sys.path[:0] = {path!r}
import atheris

with atheris.instrument_imports(include=["sklearn_mtl"]):
    import sklearn_mtl
    from sklearn_mtl._files import codec, save, schema, store
import warnings
from pathlib import Path
from _files import MB, Sample, samples, tried

warnings.simplefilter("ignore")
folder = Path({folder!r})
(folder / "work").mkdir(exist_ok=True)
known = samples(folder / "work")
path = folder / "work" / "model"

def one(data):
    which = known[data[-1] % len(known)] if data else known[0]
    content = bytes(data)
    if len(content) > 100 and content[-1] % 4:
        content = store.seal(content)
    tried(path, content, which)

atheris.Setup([sys.argv[0], *sys.argv[1:]], one)
atheris.Fuzz()
"""


@several("inputs of a fuzzer", few=0, many=300)
def test_a_fuzzer_finds_no_way_through_load(trials, tmp_path):
    """So many seconds."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for k, sample in enumerate(samples(tmp_path)):
        (corpus / f"{k}").write_bytes(sample.content)
    script = tmp_path / "fuzz.py"
    script.write_text(
        SCRIPT.format(path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path))
    )
    command = [sys.executable, script, f"-max_total_time={trials.n}", "-seed=1", "-timeout=10"]
    command += ["-rss_limit_mb=3000", f"-artifact_prefix={tmp_path}/", "-max_len=200000", corpus]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-5000:]
    n_inputs = re.findall(r"stat::number_of_executed_units: (\d+)|Done (\d+) runs", ran.stderr)
    trials.done = int(max(n for found in n_inputs for n in found if n))
