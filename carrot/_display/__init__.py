"""How results show themselves: in a line, as HTML, as a figure, as a data frame. It draws; it computes nothing."""
