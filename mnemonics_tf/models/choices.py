"""Names that settings choose among.

They stand apart from the classes and functions that they name, which need Keras: settings must be checked without it.
"""

HEADS = ("cosine", "linear", "proxies")  # of classification heads, classes in `heads`
SCALE_FORMS = ("per_neuron", "per_kernel")  # of weight transfer: a scale for each neuron, or each pair of channels
PRECISIONS = ("float32", "bfloat16", "float16")  # of the numbers that backbones compute with
BATCH_NORMS = ("frozen", "batch")  # statistics that the temporary model normalises by: moving ones, or its batch's
