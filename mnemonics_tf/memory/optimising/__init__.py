"""The exemplar level: learning and adjusting stored images through a differentiable training run."""
