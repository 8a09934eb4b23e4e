"""Libvirt's XML: read, rendered from templates, compared and merged."""
