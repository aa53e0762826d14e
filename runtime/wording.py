"""How a number of things is said."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return the number with what there is of it: '1 device', '3 devices'.

    `many` is what more or less than one is called; "": `one` with an s.
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"
