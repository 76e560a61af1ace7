"""One clip's predictions, shared by several ranks."""

from typing import Any

import torch

from gpu_worker.engine.attention import FusedAttention
from gpu_worker.engine.cache import FirstBlockCache
from gpu_worker.engine.forward import RunBlocks, Tokens, all_blocks, embed, fold, project_out
from gpu_worker.engine.predict import Conditions, Predictor, combine
from gpu_worker.engine.ranks import Ranks


class SharedAttention(FusedAttention):
    """Every rank has the text and a share of the video; each attends whole clips with its share of the heads."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks
        self.video_tokens = 0
        """Of the whole clip: a rank cannot tell from its own share."""

    def attend_all(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, text: int) -> torch.Tensor:
        joint, ranks = torch.stack([query, key, value]), self.ranks
        video = ranks.heads_for_tokens(joint[..., text:, :], self.video_tokens)
        out = self.attend(*torch.cat([ranks.own_heads(joint[..., :text, :]), video], dim=-2).unbind(0))
        words = ranks.all_heads(out[..., :text, :])
        return torch.cat([words, ranks.tokens_for_heads(out[..., text:, :])], dim=-2)


class SharedPredictor(Predictor):
    """What one process would predict, by all ranks together."""

    def __init__(
        self,
        transformer: Any,
        given: Conditions,
        caches: list[FirstBlockCache],
        blocks: Any,
        used: dict[str, str],
        attention: SharedAttention,
    ) -> None:
        super().__init__(transformer, given, caches, blocks=blocks, used=used)
        self._ranks, self._attention = attention.ranks, attention

    def __call__(self, sample: torch.Tensor, time: torch.Tensor, is_last: bool) -> torch.Tensor:
        self.begin_step(is_last)
        seen = self._given.beside_image(sample)
        if self._ranks.branches == 1:
            both = self._forward(torch.cat([seen] * 2), self._given.embeds, time, 0)
            without, with_text = both.float().chunk(2)
        else:
            own = self._forward(seen, self._given.branch(self._ranks.branch), time, 0)
            without, with_text = (part.float() for part in self._ranks.both_branches(own))
        return combine(without, with_text, self._given.guidance)

    def _forward(self, seen: torch.Tensor, embeds: torch.Tensor, time: torch.Tensor, branch: int) -> torch.Tensor:
        tokens = embed(self._transformer, seen, embeds, time, self._given.positions)
        length = tokens.video.shape[1]
        self._attention.video_tokens = length
        run: RunBlocks = self._caches[branch] if self._caches else all_blocks
        video = run(self._blocks, self._share(tokens, length))
        patches = self._ranks.whole(project_out(self._transformer, video, tokens.time), length)
        return fold(self._transformer, patches, seen.shape)

    def _share(self, tokens: Tokens, length: int) -> Tokens:
        own, turned = self._ranks.share_of(length), tokens.positions
        positions = (turned[0][own], turned[1][own]) if turned else None
        return Tokens(tokens.video[:, own], tokens.text, tokens.time, positions)
