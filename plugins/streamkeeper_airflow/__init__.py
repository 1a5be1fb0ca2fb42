"""Streamkeeper inside Airflow: DAGs from declarations, and what runs in their tasks and triggers.

Modules here are imported when DAG files are parsed, so they import clients of servers only inside
the functions that use them.
"""
