"""Export of trained networks as models that can be served by TensorFlow without this package."""
