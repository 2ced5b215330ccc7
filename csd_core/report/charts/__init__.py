"""Charts of the report as SVG. Figures are measured elsewhere; here they are drawn."""
