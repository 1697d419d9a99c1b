"""Is the explanation right: `metric(f, **settings) -> m`, with `m(x, attribution, *args) -> value`."""
