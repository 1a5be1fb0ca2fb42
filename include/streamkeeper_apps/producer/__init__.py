"""Producers: a simulator that runs for ever, and a replay of files."""
