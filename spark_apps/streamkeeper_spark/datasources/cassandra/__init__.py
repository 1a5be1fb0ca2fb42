"""Cassandra as a data source of Spark, without any jar.

    from streamkeeper_spark.datasources.cassandra import register
    register(spark)
    spark.read.format("cassandra").options(contact_points=..., keyspace=..., table=...).load()

docs/cassandra.md tells the options, the types, and what Cassandra answers itself.
"""

from streamkeeper_spark.datasources.cassandra.source import CassandraSource, register

__all__ = ["CassandraSource", "register"]
