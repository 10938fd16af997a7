"""Reading the YAML and explaining what is wrong in it."""
