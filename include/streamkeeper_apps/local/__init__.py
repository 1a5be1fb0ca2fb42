"""Real servers and Airflow on one machine, as child processes on loopback."""
