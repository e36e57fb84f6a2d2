"""
A folder of photographs, and a table with holes
===============================================

What people hold is a folder of files of many sizes, some of them lying on their side or grey, and a
CSV that says a few things about most of them. From there to predictions it takes no more than
fifteen lines: :class:`~sklearn_mtl.datasets.ImageReader` reads the files that a column names,
batch by batch, by threads.
"""

# %%
# A folder
# --------
# Let us make one, as we have no camera: 240 files with a disc, a triangle or nothing on a patterned
# ground. Some were taken by a camera that lay on its side, as EXIF says; others are grey, or PNG.
# ``labels.csv`` has the shape, the light on the ground, and the size of the shape as a share of the
# longer side. A third of the lights was not measured, and neither was each tenth of the shapes.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sklearn_mtl import MultiTaskCNNEstimator, Task, predict_frame, score_tasks
from sklearn_mtl.datasets import ImageReader

rng = np.random.default_rng(0)
temporary = TemporaryDirectory()
folder = Path(temporary.name)


def draw(width, height, shape, light, size):
    """Draw a shape, if any, on a pattern of about this light."""
    coarse = rng.normal(255 * light, 18, size=(height // 12, width // 12, 3))
    ground = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((width, height))
    noise = rng.normal(0, 9, size=(height, width, 3))
    image = Image.fromarray((np.asarray(ground) + noise).clip(0, 255).astype(np.uint8))
    radius = size * max(width, height) / 2
    x, y = rng.uniform(radius, np.array([width, height]) - radius)
    color = rng.integers(0, 256, size=3)
    color = tuple(((color + 255 * (light < 0.5)) // 2).tolist())  # dark on light, light on dark
    pen = ImageDraw.Draw(image)
    if shape == "disc":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    if shape == "triangle":
        turn = rng.uniform(0, np.pi) + 2 * np.pi / 3 * np.arange(3)
        corners = np.column_stack([x + radius * np.cos(turn), y + radius * np.sin(turn)])
        pen.polygon(list(map(tuple, corners)), fill=color)
    return image


rows = []
for i in range(240):
    width, height = rng.integers(120, 400, size=2).tolist()
    shape = rng.choice(["nothing", "disc", "triangle"])
    longest = 0.95 * min(width, height) / max(width, height)
    light, size = rng.uniform(0.2, 0.8), rng.uniform(0.25, max(0.3, longest))
    image, exif = draw(width, height, shape, light, size), Image.Exif()
    if i % 5 == 0:
        exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees to look at it
        image = image.transpose(Image.Transpose.ROTATE_90)
    image = image.convert("L") if i % 7 == 0 else image
    name = f"{i:03d}.{'png' if i % 11 == 0 else 'jpg'}"
    image.save(folder / name, exif=exif)
    rows.append((name, shape, light, size if shape != "nothing" else np.nan))

labels = pd.DataFrame(rows, columns=["file", "shape", "light", "size"]).round(3)
labels.loc[rng.random(240) < 1 / 3, "light"] = np.nan
labels.loc[rng.random(240) < 1 / 10, ["shape", "size"]] = np.nan
labels.to_csv(folder / "labels.csv", index=False)
print(labels.head(8).to_string(), "\n")

# %%
# From the folder to predictions, as pictures
# -------------------------------------------
# The shape is a class, the light a number, and the size a number that exists only where there is a
# shape. Holes stay holes. Every image is shown whole in 48 x 48 pixels, in front of black, and rows
# of what the reader returns are arrays with channels first.

table = pd.read_csv(folder / "labels.csv")
train, test = train_test_split(table, random_state=0)
tasks = [
    Task("shape", "classification"),
    Task("light", "regression"),
    Task("size", "regression", given=("shape", ["disc", "triangle"])),
]
reader = ImageReader("file", size=48, root=folder)
mtl = make_pipeline(reader, MultiTaskCNNEstimator(tasks, conditional_output="nan", random_state=0))
mtl.fit(train, train[["shape", "light", "size"]])
predicted = predict_frame(mtl, test)
figure, axes = plt.subplots(3, 7, figsize=(11, 5.4), layout="constrained")
for axis, image, row in zip(axes.flat, reader.transform(test), predicted.to_numpy(), strict=False):
    axis.imshow(image.transpose(1, 2, 0))
    axis.set(title="{}, {:.2f}, {:.2f}".format(*row), xticks=[], yticks=[])

# %%
# Against the table
# -----------------
# These rows were not trained on. Each target is scored where the table has it.

known = test[predicted.columns]
print(pd.concat({"predicted": predicted, "table": known}, axis=1).head(8).round(2).to_string())
print({name: round(score, 2) for name, score in score_tasks(mtl, test, known).items()})
for axis, said, truth in zip(axes.flat, predicted["shape"], known["shape"], strict=False):
    axis.title.set(fontsize=9, color="black" if pd.isna(truth) or said == truth else "crimson")
figure.suptitle("Shape, light and size of new files (red: the table names another shape)")
plt.show()
temporary.cleanup()
