"""Local explanations, one family a file: `method(f, **settings) -> e`, with `e(x, *args) -> attribution`."""
