"""Names that settings choose among, apart from what they stand for: that needs Keras, and settings do not."""

HEADS = ("cosine", "linear", "proxies")  # classes in `heads`
SCALE_FORMS = ("per_neuron", "per_kernel")  # of weight transfer, in `layers`
PRECISIONS = ("float32", "bfloat16", "float16")  # of backbones
BATCH_NORMS = ("frozen", "batch")  # of the temporary model, in `functional`
