"""virtkit: one spec, any virtualization type, through libvirt."""
