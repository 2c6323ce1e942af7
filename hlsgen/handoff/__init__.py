"""What goes to the vendor's tools: Tcl, and the readers of their reports."""
