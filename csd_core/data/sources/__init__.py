"""Where labelled images come from: one module for each kind of source, behind one protocol."""
