"""Class-incremental learning with exemplars that are learned, in TensorFlow and Keras.

Implements "Mnemonics Training: Multi-Class Incremental Learning without Forgetting" (Liu et al., CVPR 2020).
"""

import os

# TensorFlow reads this once, when it is imported. It does not turn oneDNN on by itself on every CPU, and
# without it convolutions there take 1.7 times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
