"""What a backend is fast at: the same numbers from equations in another form."""
