"""Offer commands that a person runs beside the DAG."""
