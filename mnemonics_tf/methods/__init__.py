"""Base methods: the losses that train a network on new classes beside exemplars of the old ones."""
