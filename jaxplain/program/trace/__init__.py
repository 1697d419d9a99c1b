"""From a function to a traced program and back: values read, replaced and named on the way."""
