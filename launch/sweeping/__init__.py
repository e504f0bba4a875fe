"""What launch/sweep.py is made of."""
