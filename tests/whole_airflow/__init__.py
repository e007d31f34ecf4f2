"""A package, so that its fixture `whole_airflow` stops its Airflow after the last test of this folder."""
