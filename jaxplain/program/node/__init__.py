"""Groups of equations that mean one operation, and the rules that rewrite them."""
