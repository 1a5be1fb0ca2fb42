"""Watched folders: files that lie in them become messages of a stream's topic, each record once."""
