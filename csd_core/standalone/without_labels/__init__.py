"""Two systems of search compared where nothing says which answers are right."""
