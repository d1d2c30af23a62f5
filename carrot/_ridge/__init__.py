"""The linear algebra under the head.

Rows, moments, the two forms of the system, leave-one-out along a path, one column of the answer.
"""
