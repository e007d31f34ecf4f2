"""What `makespan.py` consists of: the DAGs that it runs, the measurement of one run, and the report."""
