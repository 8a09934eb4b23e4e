"""What libvirt should have, what it has, and the record that links the two. Pure."""
