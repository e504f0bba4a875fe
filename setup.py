"""Packaging. The version stands in mnemonics_tf/__init__.py alone."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "mnemonics_tf/__init__.py").read_text(encoding="utf-8"))

setuptools.setup(
    name="mnemonics_tf",
    version=VERSION.group(1),
    description="Class-incremental learning with exemplars that are learned, in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # The configurations stay at the top of the project, and are installed within the package.
    packages=[*setuptools.find_packages(include=["mnemonics_tf", "mnemonics_tf.*"]), "mnemonics_tf.configs"],
    package_dir={"mnemonics_tf.configs": "configs"},
    package_data={
        "mnemonics_tf": ["py.typed"],
        "mnemonics_tf.report": ["paper_results.csv"],
        "mnemonics_tf.report.page": ["page.css", "page.html.j2", "page.js"],
        "mnemonics_tf.configs": ["*.gin", "*/*.gin"],
    },
    entry_points={"console_scripts": ["mnemonics-tf = mnemonics_tf.commands:main"]},
    python_requires=">=3.11,<3.14",
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21"],
        # What `python -m mnemonics_tf.report` draws pages with; without it, it prints its tables all the same.
        "report": ["jinja2>=3.1", "markupsafe>=2.1", "matplotlib>=3.8"],
        "docs": [
            "mkdocs>=1.6,<2",
            "mkdocs-awesome-nav>=3.3",
            "mkdocs-material>=9.8",
            "mkdocstrings>=1.0",
            "mkdocstrings-python>=2.0",
        ],
        # What `python -m mnemonics_tf.export --format=onnx` converts and compares with.
        "export": ["onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"],
        "dev": [
            "hypothesis>=6.100",
            "mypy>=2.4",
            "pytest>=9.2",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "selenium>=4.51",
            "tensorflow-serving-api>=2.21",
        ],
    },
    install_requires=[
        "absl-py>=2.5",
        "etils[epy]>=1.9",
        "gin-config>=0.5",
        "h5py>=3.11",
        "importlib_resources>=6",
        "keras>=3.15",
        "numpy>=2.2",
        "pillow>=10.1",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "tensorboard>=2.21",
        "tensorflow>=2.21",
        "tensorflow-datasets>=4.9.10",
        "threadpoolctl>=3.1",
        "tqdm>=4.66",
    ],
)
