import os
from collections import Counter, defaultdict

import pytest
import torch
from _trials import Trials

pytest.register_assert_rewrite("_asserts", "_fits")  # their asserts explain themselves, as tests do

torch.set_num_threads(1)
os.environ["NUMBA_DISABLE_JIT"] = "1"  # shap compiles for longer than the tests need without


@pytest.fixture(scope="session")
def other_processes():
    """Those of ``n_jobs=2``, started, which takes seconds, and with all that a fit imports."""
    from _inputs import make_small  # filters of warnings that it brings belong to modules of tests
    from joblib import Parallel, delayed

    rows = [[0.0], [1.0]] * 5
    Parallel(n_jobs=2)(delayed(make_small().fit)(rows, rows) for _ in range(2))


# -- trials: see `_trials.several` ----------------------------------------------------------------


def pytest_addoption(parser):
    parser.addoption("--trial", type=int, help="the number of the only trial of a kind to run")


@pytest.fixture
def trials(request, record_property):
    """Trials of a test under `several`."""
    trials = Trials(*request.param, request.config.getoption("--trial"))
    yield trials
    if request.node.get_closest_marker("reliability"):
        record_property("trials", (trials.kind, trials.done, dict(trials.outcomes)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Say which trial has failed."""
    report = yield
    trials = getattr(item, "funcargs", {}).get("trials")
    if report.failed and trials is not None:
        report.sections.append(
            ("trial", f"number {trials.now} of {trials.kind}: add --trial={trials.now} to run it")
        )
    return report


def pytest_terminal_summary(terminalreporter):
    """Print how many trials there were, and how they ended."""
    done, outcomes = Counter(), defaultdict(Counter)
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        for name, value in getattr(report, "user_properties", ()):
            if name == "trials" and report.when == "teardown":
                kind, n, ends = value
                done[kind] += n
                outcomes[kind].update(ends)
    if done:
        terminalreporter.section("trials")
    for kind, n in sorted(done.items()):
        ends = ", ".join(f"{times:,} {end}" for end, times in outcomes[kind].most_common())
        terminalreporter.write_line(f"{n:>8,} {kind}" + (f": {ends}" if ends else ""))
