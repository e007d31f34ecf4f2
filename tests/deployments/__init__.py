"""A package, so that its fixture `two_triggerers` stops its Airflow after the last test of this folder."""
