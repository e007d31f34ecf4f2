"""Airflow connections of type `kubernetes`: what they say, and the hook that Airflow's connection form knows."""
