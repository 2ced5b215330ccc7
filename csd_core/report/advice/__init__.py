"""What a person can do: warnings of training and of a check, and the next steps after a rejection."""
