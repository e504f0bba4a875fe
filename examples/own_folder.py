"""Two arrivals of one's own images: python examples/own_folder.py [FOLDER WITH first/<class>/* AND then/<class>/*]

Without a folder it paints one, so that there is something to see.
"""

import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image

import mnemonics_tf


def paint(folder: pathlib.Path, colours: dict[str, tuple[int, int, int]]) -> None:
    """Noisy squares of one colour each, 12 a class, in a folder for each class."""
    generator = np.random.default_rng(0)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.clip(colour + generator.normal(0, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


with tempfile.TemporaryDirectory() as made:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else made)
    if len(sys.argv) < 2:
        paint(folder / "first", {"moss": (60, 160, 60), "brick": (180, 60, 50), "slate": (70, 90, 120)})
        paint(folder / "then", {"sand": (220, 200, 130)})
    # Squares of 16 pixels are enough for colours; photographs want 64 or more, and backbone="small" on a CPU.
    memory = mnemonics_tf.Memory(strategy="herding", per_class=5, adjust=False)
    learner = mnemonics_tf.IncrementalLearner(image_size=16, memory=memory)
    print("first:", learner.learn(folder / "first"))
    print("then:", learner.learn(folder / "then"))  # the images of the first classes are not needed any more
    pictures = sorted((folder / "then").glob("*/*"))[:3]
    for picture, name in zip(pictures, learner.predict([str(each) for each in pictures]).names, strict=True):
        print(f"{picture.parent.name}/{picture.name} shows {name}")
