"""Captions of scenes: plain ones, and as people put it. What is None is not said."""

import random
from dataclasses import dataclass

from tiny_model.words import CHINESE, ENGLISH

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Told:
    """What a caption tells."""

    colour: str | None
    background: str | None
    shape: str | None
    motion: str | None
    size: str | None


def plain(told: Told, language: str) -> str:
    """`a small red circle moves right on a blue background`, `小红色圆形在蓝色背景上向右移动`."""
    words = ENGLISH if language == "en" else CHINESE
    size, colour = words.sizes[str(told.size)][0], words.colours[str(told.colour)][0]
    shape, ground = words.shapes[str(told.shape)][0], words.colours[str(told.background)][0]
    motion = words.motions[str(told.motion)][0]
    if language == "en":
        return f"a {size} {colour} {shape} {motion} on a {ground} background"
    return f"{size}{colour}{shape}在{ground}背景上{motion}"


def paraphrase(told: Told, language: str, chance: random.Random) -> str:
    """One of many wordings, with filler, capitals and stops now and then."""
    text = _english(told, chance) if language == "en" else _chinese(told, chance)
    text = _with_filler(text, language, chance)
    if language == "en" and chance.random() < 0.4:
        text = text[:1].upper() + text[1:]
    if chance.random() < 0.3:
        text += "." if language == "en" else "。"
    return text


def nonsense(language: str, chance: random.Random) -> str:
    """Nothing it knows."""
    words = [_filler(language, chance) for _ in range(chance.randint(1, 6))]
    return (" " if language == "en" else "").join(words)


def _english(told: Told, chance: random.Random) -> str:
    words = ENGLISH
    article = chance.choice(("a ", "a ", "the ", "one ", ""))
    named = [chance.choice(words.sizes[told.size])] if told.size else []
    named += [chance.choice(words.colours[told.colour])] if told.colour else []
    if told.shape:
        named.append(chance.choice(words.shapes[told.shape]))
    elif named:
        named.append(chance.choice(("object", "thing", "shape", "one")))
    thing = article + " ".join(named) if named else chance.choice(("it", "the object", "the shape", ""))
    motion = chance.choice(words.motions[told.motion]) if told.motion else ""
    link = chance.choice(("", "", "", "that ", "which ", "slowly ")) if motion else ""
    act = f"{link}{motion}"
    if not told.background:
        return f"{thing} {act}".strip()
    where = _english_place(told.background, chance)
    ground = chance.choice(words.colours[told.background])
    frames = [f"{thing} {act} {where}"] * 4 + [f"{thing} {where} {act}"] * 3 + [f"{where}, {thing} {act}"] * 2
    frames.append(f"{ground} background, {thing} {act}")
    frames.append(f"{thing} {act}, {ground} background")
    frames.append(f"{thing} {act}, the background is {ground}")
    return " ".join(chance.choice(frames).split())


def _english_place(ground: str, chance: random.Random) -> str:
    if ground in ENGLISH.places and chance.random() < 0.15:
        return chance.choice(ENGLISH.places[ground])
    colour = chance.choice(ENGLISH.colours[ground])
    frames = ("on a {} background", "over a {} background", "against a {} background", "on {}", "with a {} background")
    return chance.choice(
        (*frames, "in front of a {} backdrop", "on a plain {} background", "across a {} background")
    ).format(colour)


def _chinese(told: Told, chance: random.Random) -> str:
    words = CHINESE
    colour = chance.choice(words.colours[told.colour]).removesuffix("的") if told.colour else ""
    colour += chance.choice(("的", "")) if colour else ""
    size = chance.choice(words.sizes[told.size]) if told.size else ""
    shape = chance.choice(words.shapes[told.shape]) if told.shape else ("东西" if colour or size else "")
    article = chance.choice(("", "", "一个", "一个", "一只", "有一个")) if shape else ""
    thing = article + chance.choice((f"{size}{colour}{shape}", f"{colour}{size}{shape}"))
    thing = thing or chance.choice(("它", "物体", "", "图中的物体"))
    act = (
        chance.choice(("", "", "", "正在", "缓缓", "慢慢地")) + chance.choice(words.motions[told.motion])
        if told.motion
        else ""
    )
    if not told.background:
        return thing + act
    where = _chinese_place(told.background, chance)
    ground = chance.choice(words.colours[told.background]).removesuffix("的")
    frames = [f"{thing}{where}{act}"] * 4 + [f"{where}，{thing}{act}"] * 2 + [f"{where}{thing}{act}"]
    frames += [f"{thing}{act}，{ground}背景", f"{ground}背景，{thing}{act}", f"{thing}{act}，背景是{ground}的"]
    frames.append(f"背景为{ground}，{thing}{act}")
    return chance.choice(frames)


def _chinese_place(ground: str, chance: random.Random) -> str:
    if ground in CHINESE.places and chance.random() < 0.15:
        return chance.choice(CHINESE.places[ground])
    colour = chance.choice(CHINESE.colours[ground]).removesuffix("的")
    return chance.choice(("在{}背景上", "在{}背景中", "在{}的背景上", "在{}背景下", "在{}背景里")).format(colour)


def _with_filler(text: str, language: str, chance: random.Random) -> str:
    if chance.random() > 0.4:
        return text
    for _ in range(chance.randint(1, 4)):
        word = _filler(language, chance)
        if language == "zh":
            text = f"{word}，{text}" if chance.random() < 0.5 else f"{text}，{word}"
            continue
        parts = text.split(" ")
        parts.insert(chance.choice((0, len(parts), chance.randint(0, len(parts)))), word)
        text = " ".join(parts)
    return text


def _filler(language: str, chance: random.Random) -> str:
    if language == "zh":
        return chance.choice(CHINESE.filler)
    if chance.random() < 0.3:
        return "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randint(3, 8)))
    return chance.choice(ENGLISH.filler)
