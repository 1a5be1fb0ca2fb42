"""Settings and clients from Airflow's connections."""
