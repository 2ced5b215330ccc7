"""Several processes that train as one. One process is the special case in which nothing here is called."""
