"""The words the model knows, in English and Chinese, by what they mean."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """Surface forms by value; the first of each is the plain one."""

    colours: dict[str, tuple[str, ...]]
    shapes: dict[str, tuple[str, ...]]
    motions: dict[str, tuple[str, ...]]
    sizes: dict[str, tuple[str, ...]]
    places: dict[str, tuple[str, ...]]
    """Backgrounds named by a place: a place is a plain colour."""

    structure: tuple[str, ...]
    """Words without a value of their own that tell what belongs to what."""

    filler: tuple[str, ...]
    """Words it does not know, for training: the tokenizer drops them."""


ENGLISH = Language(
    colours={
        "red": ("red", "crimson", "scarlet"),
        "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "golden"),
        "green": ("green", "emerald"),
        "blue": ("blue", "azure", "navy"),
        "purple": ("purple", "violet"),
        "white": ("white",),
        "black": ("black",),
    },
    shapes={
        "circle": ("circle", "ball", "disc", "disk", "sphere", "dot"),
        "square": ("square", "block", "box", "cube"),
        "triangle": ("triangle", "pyramid"),
        "star": ("star",),
    },
    motions={
        "right": (
            *("moves right", "moves to the right", "slides right", "goes right", "moving right", "moving to the right"),
            *(
                "travels to the right",
                "drifts right",
                "moves from left to right",
                "moves rightward",
                "move to the right",
            ),
            *("rolls right", "rolls to the right", "rolls", "is moving right", "moves slowly to the right"),
        ),
        "left": (
            *("moves left", "moves to the left", "slides left", "goes left", "moving left", "moving to the left"),
            *("travels to the left", "drifts left", "moves from right to left", "moves leftward", "move to the left"),
            *("rolls left", "rolls to the left", "is moving left", "moves slowly to the left"),
        ),
        "up": (
            *("moves up", "rises", "goes up", "moves upward", "moving up", "climbs", "floats up", "is rising"),
            *("moving upwards", "ascends", "moves from bottom to top", "move up"),
        ),
        "down": (
            *("moves down", "falls", "goes down", "moves downward", "moving down", "drops", "sinks", "is falling"),
            *("moving downwards", "descends", "moves from top to bottom", "move down"),
        ),
        "still": (
            *("stays still", "stands still", "does not move", "is still", "is not moving", "stays motionless"),
            *("is static", "keeps still", "rests", "remains stationary", "is motionless"),
        ),
        "grow": (
            *("grows", "gets bigger", "grows larger", "growing", "expands", "becomes bigger", "is growing"),
            *("getting larger", "becomes larger", "gets larger", "swells", "grows bigger"),
        ),
    },
    sizes={"small": ("small", "little", "tiny"), "big": ("big", "large", "huge", "giant")},
    places={
        "blue": ("in the sky", "over the sea", "on the ocean", "at sea", "in the blue sky", "over the blue sea"),
        "green": ("on the grass", "on a meadow", "on the lawn", "over green grass", "on green grass"),
        "black": ("at night", "in the night sky", "in the dark"),
        "white": ("on the snow", "in snow"),
        "orange": ("at sunset", "in the sunset"),
        "yellow": ("in the desert", "on the sand"),
    },
    structure=(
        *("on", "over", "against", "with", "in", "at", "across", "background", "backdrop", "front", "behind"),
        *("is", "not", "does", "from", "to", "it"),
    ),
    filler=tuple(
        "cinematic beautiful simple clean detailed video animation showing bright smooth minimal please draw style hd "
        "4k very nice realistic photo shot camera light shadow soft warm dream city cat dog panda man woman forest "
        "mountain river car house dance run sing rain wind flower tree street table robot planet film lens slow "
        "slowly fast quickly gently then while near under and of a the an one this that plain solid".split()
    ),
)

CHINESE = Language(
    colours={
        "red": ("红色", "红", "大红色", "红的"),
        "orange": ("橙色", "橘色", "橙", "橘黄色"),
        "yellow": ("黄色", "黄", "金色", "金黄色"),
        "green": ("绿色", "绿", "翠绿色"),
        "blue": ("蓝色", "蓝", "天蓝色", "深蓝色"),
        "purple": ("紫色", "紫", "紫罗兰色"),
        "white": ("白色", "白", "雪白色"),
        "black": ("黑色", "黑", "漆黑"),
    },
    shapes={
        "circle": ("圆形", "圆", "圆球", "球", "圆圈", "小球", "圆点", "球体"),
        "square": ("方形", "正方形", "方块", "方框", "立方体"),
        "triangle": ("三角形", "三角", "金字塔"),
        "star": ("星形", "星星", "五角星", "星"),
    },
    motions={
        "right": (
            "向右移动",
            "往右移动",
            "向右滑动",
            "向右走",
            "朝右移动",
            "从左到右移动",
            "从左往右移动",
            "向右边移动",
            "向右飘动",
            "向右滚动",
            "滚动",
        ),
        "left": (
            "向左移动",
            "往左移动",
            "向左滑动",
            "向左走",
            "朝左移动",
            "从右到左移动",
            "从右往左移动",
            "向左边移动",
            "向左飘动",
            "向左滚动",
        ),
        "up": ("向上移动", "往上移动", "上升", "升起", "朝上移动", "从下往上移动", "向上飘动", "从下到上移动", "升高"),
        "down": ("向下移动", "往下移动", "下降", "落下", "朝下移动", "从上往下移动", "下落", "从上到下移动", "坠落"),
        "still": ("静止不动", "保持静止", "不动", "静止", "一动不动", "停在原地", "保持不动", "没有移动"),
        "grow": ("变大", "逐渐变大", "慢慢变大", "放大", "越来越大", "膨胀", "增大", "不断变大"),
    },
    sizes={"small": ("小", "小小的", "小型", "微小的"), "big": ("大", "大大的", "巨大的", "大型", "很大的")},
    places={
        "blue": ("在天空中", "在大海上", "在海面上", "在蓝天上"),
        "green": ("在草地上", "在草坪上", "在草原上", "在绿色的草地上"),
        "black": ("在夜空中", "在夜晚", "在黑暗中", "在黑夜里"),
        "white": ("在雪地上", "在雪地里"),
        "orange": ("在夕阳下", "在晚霞中"),
        "yellow": ("在沙漠中", "在沙地上"),
    },
    structure=("在", "上", "里", "中", "下", "背景", "底色", "是", "为"),
    filler=tuple(
        "高清 画面简洁 一段视频 动画 镜头固定 电影质感 平滑 请画 简单 细节丰富 非常 漂亮 风格 光线 柔和 城市 狗 熊猫 "
        "男人 女人 森林 河 汽车 房子 跳舞 奔跑 雨 风 花 树 街道 桌子 机器人 太空 快速 缓慢 然后 一边 附近 一个 一只 "
        "一颗 的".split()
    ),
)

# Forms of several words are split into these; longer ones are found first.
_CHINESE_PARTS = (
    *("向右", "往右", "朝右", "向左", "往左", "朝左", "向上", "往上", "朝上", "向下", "往下", "朝下", "从左", "从右"),
    *(
        "从上",
        "从下",
        "到右",
        "到左",
        "到上",
        "到下",
        "右边",
        "左边",
        "移动",
        "滑动",
        "走",
        "飘动",
        "滚动",
        "静止",
        "不动",
        "停",
    ),
    *(
        "没有",
        "变大",
        "越来越大",
        "小小",
        "微小",
        "大大",
        "巨大",
        "大型",
        "小型",
        "天空",
        "大海",
        "海面",
        "蓝天",
        "草地",
    ),
    *("草坪", "草原", "夜空", "夜晚", "黑暗", "黑夜", "雪地", "夕阳", "晚霞", "沙漠", "沙地", "背景", "底色"),
    *("上升", "升起", "升高", "下降", "落下", "下落", "坠落", "放大", "膨胀", "增大"),
)


def english_words() -> list[str]:
    """Every word of every form, except those the tokenizer may drop."""
    dropped = {"a", "the"}
    forms = [form for group in _forms(ENGLISH) for form in group]
    return sorted({word for form in (*forms, *ENGLISH.structure) for word in form.split()} - dropped)


def chinese_words() -> list[str]:
    """The longest first: the tokenizer takes the first that fits."""
    whole = {
        form.removesuffix("的")
        for group in (CHINESE.colours, CHINESE.shapes)
        for forms in group.values()
        for form in forms
    }
    sizes = {"小", "大"}
    return sorted(whole | sizes | {*_CHINESE_PARTS, *CHINESE.structure}, key=lambda word: (-len(word), word))


def _forms(language: Language) -> list[tuple[str, ...]]:
    groups = (language.colours, language.shapes, language.motions, language.sizes, language.places)
    return [forms for group in groups for forms in group.values()]
