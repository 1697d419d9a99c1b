"""`python -m jaxplain`: train, explain, evaluate, report, visualize and list layers without writing a script."""

from jaxplain.command import main

if __name__ == "__main__":
    raise SystemExit(main())
