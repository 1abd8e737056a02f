"""A self-contained page about results and training runs, for ``opera-env report``."""
