"""Sinks: they follow the lake and apply published batches in order."""
