"""This machine's own: programs that virtkit starts, and folders for temporary files."""
