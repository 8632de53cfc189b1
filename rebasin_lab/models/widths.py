"""Scale the widths of a network by a width multiplier (the paper's Figure 4)."""


def scaled_width(architecture: str, width: int, width_multiplier: int | float) -> int:
    """The number of channels of a layer that has `width` channels at 1x.

    Raises:
        ValueError: if the product is no whole number of channels, one or more.
    """
    scaled = width * width_multiplier
    if scaled < 1 or scaled % 1:  # infinity % 1 is NaN, which is true
        raise ValueError(
            f"Expected a width_multiplier of {architecture} that makes every width whole; "
            f"got {width_multiplier}, which makes {width} channels {scaled:g}."
        )
    return int(scaled)
