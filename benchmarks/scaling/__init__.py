"""What `scale.py` consists of: an API server made of recorded pods, and the process that is measured beside it."""
