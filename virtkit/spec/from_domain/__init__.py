"""From a libvirt domain's XML to the spec that describes it. Pure: XML in, YAML out."""
