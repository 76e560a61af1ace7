"""Letters that look like others. Compatibility forms (full width, mathematical, circled) are Unicode's own business."""

import string


def _pairs(text: str) -> dict[str, str]:
    """`аa еe`: what is seen, then what is meant."""
    return {pair[0]: pair[1:] for pair in text.split()}


def _range(first: int) -> dict[str, str]:
    return {chr(first + index): letter for index, letter in enumerate(string.ascii_lowercase)}


LOOKALIKES: dict[str, str] = {
    # Cyrillic, after lower-casing.
    **_pairs("аa вb сc ԁd еe ɡg һh нh іi јj кk ӏl мm пn оo рp ԛq гr ѕs тt цu ѵv ԝw хx уy зz ьb єe ґr"),
    # Greek, Armenian.
    **_pairs("αa βb ςc δd εe ηn ιi κk μu νv οo πn ρp σo τt υu χx ωw γy ζz օo սu ӏl հh ոn ցg զq"),
    # Small capitals, hooked, struck and turned letters.
    **_pairs("ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz"),
    **_pairs("ɑa ɛe ɠg ıi ȷj ɾr ƭt ʊu ʋv ɯw ɣy ƀb đd ħh łl øo ʉu ɓb ɗd ƙk ɲn ƥp ʂs ʐz ƒf əe ɐa ɔc ɥh ɹr ʇt ʌv ʍw ʎy"),
    **_pairs("æae œoe ßss ĳij ŋn ðd þp"),
    # Squared letters, which Unicode does not take for letters.
    **_range(0x1F130),
    **_range(0x1F150),
    **_range(0x1F170),
    # Regional indicators, of which flags are made.
    **_range(0x1F1E6),
}

_SIGNS = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "!": "i", "€": "e"}
LEET: tuple[dict[str, str], dict[str, str]] = (
    _SIGNS | {"1": "i", "|": "i"},
    _SIGNS | {"1": "l", "|": "l", "!": "l"},
)
"""Digits and signs that stand for letters; two readings, because 1 is i and l."""
