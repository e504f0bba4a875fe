"""The instrument: one real later phase for each memory, from one network of phase 0. See `launch/next_phase.py`."""
