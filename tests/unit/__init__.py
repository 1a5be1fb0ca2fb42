"""A package, so that a unit test may have the name of another ring's test."""
