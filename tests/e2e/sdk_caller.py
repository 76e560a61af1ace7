"""Run inside an SDK's venv: submits every request on stdin, polls each to its end, prints the results as JSON."""

import json
import sys
import time


def open_client(sdk, key, url):
    if sdk == "zhipuai":
        from zhipuai import ZhipuAI

        return ZhipuAI(api_key=key, base_url=url)
    from zai import ZhipuAiClient

    return ZhipuAiClient(api_key=key, base_url=url)


def main():
    sdk, key, url = sys.argv[1:]
    client = open_client(sdk, key, url)
    results = {}
    tasks = {name: client.videos.generations(**asked) for name, asked in json.load(sys.stdin).items()}
    for name, task in tasks.items():
        assert task.task_status == "PROCESSING", task
        while (result := client.videos.retrieve_videos_result(id=task.id)).task_status == "PROCESSING":
            time.sleep(0.5)
        video = result.video_result[0] if result.video_result else None
        results[name] = {"id": task.id, "status": result.task_status, "model": result.model}
        if video:
            results[name] |= {"url": video.url, "cover": video.cover_image_url}
    print(json.dumps(results))


main()
