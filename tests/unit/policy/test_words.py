"""Sensitive words are found however they are dressed up, and innocent text is left alone."""

import random
import time
from pathlib import Path

import pytest

from video_jobs.policy.words import Hit, Matcher, WordLists

WORDS = ["badword", "forbidden act", "违禁词", "法外之地", "kill switch", "ass", "毒品"]
MATCHER = Matcher({"list": WORDS})

EVASIONS = {
    "case": ["BADWORD", "BaDwOrD", "Forbidden ACT"],
    "width": ["ｂａｄｗｏｒｄ", "ＢＡＤＷＯＲＤ", "𝐛𝐚𝐝𝐰𝐨𝐫𝐝", "𝕓𝕒𝕕𝕨𝕠𝕣𝕕", "ⓑⓐⓓⓦⓞⓡⓓ", "🅱🅰🅳🆆🅾🆁🅳", "ᵇᵃᵈʷᵒʳᵈ"],
    "spacing": [
        *(
            "b a d w o r d",
            "bad word",
            "b.a.d.w.o.r.d",
            "b-a-d w_o_r_d",
            "bad\u200bword",
            "bad\u00adword",
            "b\ta\nd word",
        ),
        *(
            "forbidden   act",
            "forbidden\u3000act",
            "forbidden, act",
            "违 禁 词",
            "违-禁-词",
            "违\u200b禁\u200d词",
            "违。禁，词",
        ),
        *("法*外*之*地", "毒a品", "毒x1品", "毒 ab 品", "请看违禁词视频", "kill-switch", "k i l l s w i t c h"),
    ],
    "look-alikes": [
        *("bаdwоrd", "ЬАDWORD", "βαdωorδ", "bádwörd", "b̶a̶d̶w̶o̶r̶d̶", "ʙᴀᴅᴡᴏʀᴅ", "ƀaɗworđ", "bɑdwơrd", "b⃝adword"),
        *("ｂаｄｗоｒｄ", "ḃaḋẇoṙḋ", "badwоrԁ", "违⻗禁词".replace("⻗", "\u200b"), "⾮badword", "法外之\ufe0f地"),
    ],
    "digits and signs": ["b4dw0rd", "B@DW0RD", "b 4 d w 0 r d", "k1ll sw1tch", "ki11 5witch", "a$$", "@5s"],
    "numbers beside": ["badword123", "18badword", "毒品2"],
    # Not normalised away: told as misses, so that nobody believes otherwise.
    "repeats": ["baaadword", "badworddd"],
    "homophones": ["为禁词", "独品"],
    "split characters": ["毒口口口"],
    "traditional": ["違禁詞"],
    "reversed": ["drowdab"],
}
BEYOND = {"repeats", "homophones", "split characters", "traditional", "reversed"}
INNOCENT = [
    *(
        "a class of passing grass",
        "assassin",
        "assess the embassy",
        "a bad wordsmith",
        "the forbidden actor",
        "badwords",
    ),
    *(
        "违规禁止词语",
        "法律之外的地方",
        "有毒的商品",
        "As sad as it gets",
        "a skill switches",
        "bass 4 ass0rted".replace("ass0rted", "assorted"),
    ),
    *("a red ball rolls over green grass, 4k, 60fps, $5 price!", "一只猫在弹钢琴", "москва и лес", "καλημέρα κόσμε"),
]


def test_evasions_are_seen_through_and_the_rate_is_told() -> None:
    caught = {kind: [text for text in texts if MATCHER.find(text)] for kind, texts in EVASIONS.items()}
    for kind, texts in EVASIONS.items():
        print(f"{kind}: {len(caught[kind])} of {len(texts)}")
    total = sum(map(len, caught.values()))
    print(f"all: {total} of {sum(map(len, EVASIONS.values()))}")

    missed = {kind: [text for text in texts if text not in caught[kind]] for kind, texts in EVASIONS.items()}
    assert {kind: texts for kind, texts in missed.items() if texts and kind not in BEYOND} == {}


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_text_is_left_alone(text: str) -> None:
    assert MATCHER.find(text) is None


def test_lists_are_told_apart_and_can_be_chosen() -> None:
    matcher = Matcher({"one": ["apple"], "two": ["pear", "Apple"]})

    assert matcher.find("an APPLE") == Hit("one", "apple")
    assert matcher.find("an apple", ["two"]) == Hit("two", "Apple")
    assert matcher.find("a pear", ["one"]) is None
    assert Matcher({}).find("anything") is None


async def test_changed_files_are_read_anew(tmp_path: Path) -> None:
    (tmp_path / "zh.txt").write_text("# 注释\n违禁词\n", "utf-8")
    lists = WordLists([tmp_path])
    assert lists.matcher.find("违 禁 词") == Hit("zh", "违禁词")

    (tmp_path / "en.txt").write_text("\ufeffbadword\r\n\r\n", "utf-8")
    assert await lists.refresh()
    assert not await lists.refresh()
    assert lists.matcher.find("BADWORD") == Hit("en", "badword")
    (tmp_path / "zh.txt").write_bytes(b"\xff\xfe broken")
    assert not await lists.refresh()
    assert len(lists.matcher) == 2, "what cannot be read leaves the lists as they were"


def test_512_characters_against_50_000_words_take_less_than_a_millisecond() -> None:
    dice = random.Random(1)
    chinese = ["".join(chr(dice.randrange(0x4E00, 0x9FA5)) for _ in range(dice.randint(2, 6))) for _ in range(25_000)]
    latin = [
        "".join(dice.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(dice.randint(5, 12))) for _ in range(25_000)
    ]
    matcher = Matcher({"zh": chinese, "en": latin})
    texts = [
        "".join(dice.choice([chr(dice.randrange(0x4E00, 0x9FA5)), "q7x. "[dice.randrange(5)]]) for _ in range(512))
        for _ in range(100)
    ]
    spent = []
    for text in texts:
        started = time.process_time()
        matcher.find(text)
        spent.append(time.process_time() - started)

    spent.sort()
    print(
        f"512 characters, {len(matcher)} words: median {spent[50] * 1000:.2f} ms, 99th {spent[98] * 1000:.2f} ms of CPU"
    )
    assert spent[50] < 0.005
