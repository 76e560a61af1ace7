"""Run inside an SDK's venv: its unmodified client does everything that `features.py` asks. Prints what came of it."""

import json
import secrets
import sys

from features import ZAI_FIELDS, Refused, try_all


class World:
    def __init__(self, told):
        self.__dict__.update(told)
        self.english = told["client_name"] == "ZaiClient"
        # zhipuai has no word for a watermark: its users put what it does not know into the body themselves.
        more = {"extra_body": {"watermark_enabled": False, "seed": 7}} if told["client_name"] == "ZhipuAI" else {}
        self.own_fields = ZAI_FIELDS if told["client_name"] in ("ZaiClient", "ZhipuAiClient") else more

    def unique(self, word):
        return f"{word}-{secrets.token_hex(4)}"

    def client(self, key=None, base=None):
        return CLIENTS[self.client_name](key or self.key, base or self.base, self.jwt)


class Sdk:
    """The videos resource of the newer SDKs."""

    def __init__(self, key, base, jwt):
        self.sdk = self.open(api_key=key, base_url=base, disable_token_cache=not jwt)

    def create(self, **fields):
        return self.plain(lambda: self.sdk.videos.generations(**fields))

    def read(self, task_id):
        return self.plain(lambda: self.sdk.videos.retrieve_videos_result(id=task_id))

    def plain(self, call):
        try:
            answer = call()
        except Exception as error:
            if not hasattr(error, "response") or not hasattr(error, "status_code"):
                raise
            said = error.response.json()["error"]
            raise Refused(error.status_code, said["code"], said["message"], type(error).__name__) from error
        return answer if isinstance(answer, dict) else answer.model_dump()


class ZhipuAI(Sdk):
    def open(self, **options):
        from zhipuai import ZhipuAI

        return ZhipuAI(**options)


class ZaiClient(Sdk):
    def open(self, **options):
        from zai import ZaiClient

        return ZaiClient(**options)


class ZhipuAiClient(Sdk):
    def open(self, **options):
        from zai import ZhipuAiClient

        return ZhipuAiClient(**options)


class OldZhipuAI(Sdk):
    """Version 2.0.1 knows no videos: its users call through its HTTP layer, and read as they read a chat's result."""

    def __init__(self, key, base, jwt):
        from zhipuai import ZhipuAI

        self.sdk = ZhipuAI(api_key=key, base_url=base)

    def create(self, **fields):
        return self.plain(lambda: self.sdk.post("/videos/generations", body=fields, cast_type=object))

    def read(self, task_id):
        completions = self.sdk.chat.asyncCompletions
        return self.plain(lambda: completions.retrieve_completion_result(id=task_id, disable_strict_validation=True))


CLIENTS = {kind.__name__: kind for kind in (ZhipuAI, OldZhipuAI, ZaiClient, ZhipuAiClient)}

print(json.dumps(try_all(World(json.load(sys.stdin)))))
