"""How a number of things is said."""


def counted(number: int, noun: str, does: str = "") -> str:
    """Return '3 devices' or '1 device'.

    `does`, what they do, is given for many: 'are on their way' becomes '1 device is on its way'.
    """
    if number != 1:
        ending = "es" if noun.endswith("s") else "s"
        return f"{number} {noun}{ending} {does}".rstrip()
    words = [_OF_ONE.get(word, word) for word in does.split()]
    return " ".join([f"1 {noun}", *words])


_OF_ONE = {
    "are": "is",
    "their": "its",
    "they": "it",
    "fetch": "fetches",
    "give": "gives",
    "get": "gets",
    "wait": "waits",
}
