"""A Keras model as the network: python examples/own_backbone.py

With a pretrained one it is keras.applications.MobileNetV2(include_top=False, weights="imagenet", pooling="avg"), and
Backbone(network, image_size=96).
"""

import tempfile

import keras
import numpy as np
from sklearn.datasets import load_digits

import mnemonics_tf

network = keras.Sequential(
    [
        keras.Input((16, 16, 3)),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.DepthwiseConv2D(3, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(64, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
    ]
)
digits = load_digits()
images, labels = (digits.images * 15.9).astype(np.uint8), digits.target  # 8 x 8, grey: brought to 16 x 16 x 3
known = labels < 5
learner = mnemonics_tf.IncrementalLearner(
    backbone=mnemonics_tf.Backbone(network, preprocess="unit"),  # the model expects pixels on the scale 0..1
    memory=mnemonics_tf.Memory(strategy="herding", per_class=10, adjust=False),
    model_level=mnemonics_tf.ModelLevel(epochs=10, batch_size=32, milestones=(8,), weight_transfer="none"),
    horizontal_flip=False,
)
print("five digits:", learner.learn(images[known], labels[known]))
print("and the other five:", learner.learn(images[~known], labels[~known]))
with tempfile.TemporaryDirectory() as folder:
    learner.save(f"{folder}/learner")
    learner = mnemonics_tf.IncrementalLearner.load(f"{folder}/learner")  # needs nothing but its folder
    print(learner.predict(images[:5]).names, "should be", labels[:5].tolist())
