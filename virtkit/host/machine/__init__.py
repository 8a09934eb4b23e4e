"""What a machine's own files and programs tell: read here, and by ssh on other hosts.

`virtkit.host.machine.inspection` is the program that does it there; a host has nothing of it
installed. So nothing here imports more than the standard library, or runs for longer than a moment.
"""
