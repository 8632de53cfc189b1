"""A package, so that pytest ends what these tests share (`scope="package"`) when they end."""
