"""The pure core: declarations, names, hours, supervision and reports, with no outside world."""
