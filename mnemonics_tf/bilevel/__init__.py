"""The exemplar level: gradients through a training run into the pixels it was trained on."""
