"""Unit tests find the same examples on every run, and do not depend on how fast a machine is."""

from hypothesis import settings

settings.register_profile("virtkit", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("virtkit")
