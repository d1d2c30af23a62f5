"""``carrot explore``: a model looked at in a browser, and the desk where doubtful labels are settled. Extra ``app``.

A small server of the model's own. It serves what the model's index names, by a hash of the name and never by a path; it
asks nothing of any other host, and writes to ``MODEL/desk`` alone, but for a new version beside the model.
"""
