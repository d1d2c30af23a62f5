"""Edits of the training set: what many of them would do at once, and the fewest that flip a prediction.

``carrot.attribution`` has them for users.
"""
