"""The steps of one guest: its definition, its volumes, the keys in its seed."""
