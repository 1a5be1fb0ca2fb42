"""How a launch's process is started, seen and ended."""
