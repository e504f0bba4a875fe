"""Networks: layers, the residual network, growing heads, and calls with given parameters."""
