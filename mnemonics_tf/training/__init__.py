"""Training of the network of a phase: the loop, the model level and the balanced fine-tuning."""
