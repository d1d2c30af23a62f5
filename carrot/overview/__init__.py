"""Many answers on one page: a report of a whole model, and an index of a folder of pictures."""
