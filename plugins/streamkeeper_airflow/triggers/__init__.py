"""What waits in the triggerer, at no worker slot."""
