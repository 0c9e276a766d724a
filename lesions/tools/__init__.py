"""What a person runs beside the DAG."""
