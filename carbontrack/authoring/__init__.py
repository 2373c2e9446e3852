"""What plugin authors are helped with: a package to begin with (``new``), and how good it is (``checking``)."""
