"""Spark data sources that can be used without the rest of Streamkeeper."""
