"""The report of a comparison: tables, plots and text, from the results alone. Nothing is measured here."""
