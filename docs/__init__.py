"""Scripts that write the measured parts of the documentation."""
