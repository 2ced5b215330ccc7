"""What finished runs measured, as one table. Means and intervals over seeds belong here."""
