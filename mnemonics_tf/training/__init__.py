"""Training of the network: the loop, the model level and the balanced fine-tuning."""
