"""`python -m jaxplain`: explain a dataset and make a page of the result, without writing a script."""

from jaxplain.command import main

if __name__ == "__main__":
    raise SystemExit(main())
