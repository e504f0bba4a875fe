"""The exemplar memory: its budget, how images are chosen and coded, and how they are learned."""
