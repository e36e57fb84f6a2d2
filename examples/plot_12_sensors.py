"""
Sensor windows: what somebody does, how fast, and for how long
==============================================================

Windows of a sensor with three axes are sequences with three channels. ``input_shape=(3, 128)`` says
so, as three axes of an array alone would be images. The activity is a class; the cadence, in steps
per second, exists only where somebody walks or runs.
"""

# %%
# Data
# ----
# Accelerations over 2.56 s, 50 a second, made up: a phone lies still, or is carried at any angle by
# somebody who walks or runs. Half of the cadences were never counted.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, Task

rng = np.random.default_rng(0)
n, time = 1200, np.arange(128) / 50
activity = rng.choice(["still", "walk", "run"], n)
moving = activity != "still"
cadence = np.select(
    [activity == "walk", activity == "run"], rng.uniform([[1.4], [2.4]], [[2.4], [3.4]], (2, n))
)
force = np.select([activity == "walk", activity == "run"], [0.3, 0.9]) * rng.uniform(0.7, 1.3, n)
phase = 2 * np.pi * (cadence[:, None] * time + rng.random((n, 1)))
steps = force[:, None] * (np.sin(phase) + 0.5 * np.sin(2 * phase + 1))
direction = rng.normal(size=(n, 3))
direction /= np.linalg.norm(direction, axis=1, keepdims=True)
X = direction[:, :, None] * (1 + steps[:, None]) + rng.normal(0, 0.15, (n, 3, 128))
y = pd.DataFrame(
    {
        "activity": activity,
        "cadence": np.where(moving & (rng.random(n) < 0.5), cadence, np.nan),
    }
)

# %%
# Fit
# ---
# The trunk has five convolutional networks over time, each of which leaves out a fifth of the
# windows, so that there are scores of windows that a network has not seen. Several windows come
# from one person: ``groups`` would keep them together where they are left out.

est = MultiTaskCNNEstimator(
    tasks=[
        Task("activity", "classification"),
        Task("cadence", "regression", given=("activity", ["walk", "run"])),
    ],
    input_shape=(3, 128),
    conditional_output="nan",
    max_epochs=30,
    random_state=0,
)
est.fit(X[:900].astype("float32"), y[:900])
X_new, y_new = X[900:].astype("float32"), y[900:]
print(est.tasks_)
print({name: round(score, 3) for name, score in est.score_tasks(X_new, y_new).items()})
print({name: round(score, 3) for name, score in est.oob_score_.items()})

# %%
# Look
# ----
# Where the network says that nobody walks, there is no cadence either: ``conditional_output="nan"``
# gives predictions the layout of *y*.

said = est.predict_frame(X_new)
shown = [int(np.flatnonzero(y_new["activity"] == name)[0]) for name in ("still", "walk", "run")]
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for axis, i in zip(axes, shown, strict=False):
    axis.plot(time, X_new[i].T, linewidth=1)
    speed = said["cadence"].iloc[i]
    steps = "no cadence" if np.isnan(speed) else f"{speed:.1f} steps/s"
    axis.set(xlabel="seconds", title=f"{said['activity'].iloc[i]}, {steps}", ylim=(-3, 3))
axes[0].set_ylabel("acceleration, g")
true = cadence[900:]
for name, color in (("walk", "#0072B2"), ("run", "#E69F00")):
    rows = (y_new["activity"] == name).to_numpy()
    axes[3].scatter(true[rows], said["cadence"][rows], s=8, color=color, label=name)
axes[3].axline((2, 2), slope=1, color="grey", linewidth=1)
axes[3].set(xlabel="true cadence", ylabel="predicted", title="new windows")
axes[3].legend(frameon=False)
plt.show()
