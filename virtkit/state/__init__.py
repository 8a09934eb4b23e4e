"""What should stand in libvirt, what stands there, and the record between the two. Pure."""
