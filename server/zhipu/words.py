"""Zhipu's business errors: code, HTTP status, Chinese and English text."""

from typing import NamedTuple


class Row(NamedTuple):
    status: int
    zh: str
    en: str
    should_retry: bool = False


TABLE = {
    "500": Row(500, "内部错误", "Internal Error", should_retry=True),
    "1000": Row(401, "身份验证失败", "Authentication Failed"),
    "1001": Row(
        401,
        "Header 中未收到 Authentication 参数，无法进行身份验证",
        "Authentication parameter not received in Header, unable to authenticate",
    ),
    "1003": Row(
        401,
        "Authentication Token 已过期，请重新生成/获取",
        "Authentication Token expired, please regenerate/obtain",
    ),
    "1112": Row(403, "您的账户已被锁定，请联系客服", "Your account has been locked. Please contact customer service"),
    "1200": Row(500, "API 调用失败", "API Call Error"),
    "1210": Row(
        400,
        "API 调用参数有误，请检查文档{detail}",
        "Incorrect API call parameters, please check the documentation{detail}",
    ),
    "1211": Row(400, "模型不存在，请检查模型代码", "Model does not exist, please check the model code"),
    "1212": Row(405, "当前接口不支持 {method} 调用方式", "This API does not support the {method} method"),
    "1213": Row(400, "未正常接收到 {field} 参数", "{field} parameter not received properly"),
    "1214": Row(
        400,
        "{field} 参数非法。请检查文档{detail}",
        "Invalid {field} parameter. Please check the documentation{detail}",
    ),
    "1220": Row(403, "您无权访问该资源{detail}", "You have no access to this resource{detail}"),
    "1222": Row(404, "API 不存在", "API does not exist"),
    "1231": Row(400, "您已有请求：{request_id}", "You already have a request: {request_id}"),
    "1234": Row(
        503,
        "网络错误，服务暂时不可用，请稍后重试",
        "Network error, the service is temporarily unavailable, please try again later",
        should_retry=True,
    ),
    "1261": Row(400, "Prompt 超长", "Prompt is too long"),
    "1301": Row(
        400,
        "系统检测到输入或生成内容可能包含不安全或敏感内容，请您避免输入易产生敏感内容的提示语，感谢您的配合",
        "System detected potentially unsafe or sensitive content in input or generation. "
        "Please avoid using prompts that may generate sensitive content. Thank you for your cooperation.",
    ),
    "1302": Row(
        429,
        "您的账户已达到速率限制，请您控制请求频率",
        "You have reached your account's rate limit, please reduce the frequency of your requests",
    ),
}

# How a job's end reads in this dialect: code, Chinese, English.
JOB_ERRORS = {
    "cancelled": ("1230", "任务已取消", "The task was cancelled"),
    "prompt_not_understood": (
        "1214",
        "prompt 参数非法：模型词表无法识别其中的大部分内容",
        "Invalid prompt: most of it is unknown to the model's vocabulary",
    ),
    "image_unreadable": ("1214", "image_url 参数非法：图片无法读取", "Invalid image_url: the image cannot be read"),
    "poison": (
        "1200",
        "视频生成多次异常终止，任务不再重试",
        "Rendering ended abnormally too often; the task is not retried",
    ),
    "start_too_late": ("1234", "排队超时，任务未能开始", "The task could not start in time"),
    "run_too_long": ("1234", "任务执行超时", "The task was not done in time"),
}
OTHER_JOB_ERROR = ("1200", "视频生成失败", "Video generation failed")

DETAILS = {
    "unknown_letters": (
        "：模型不认识提示词中的大部分文字，请使用英文提示词，或由管理员配置提示词改写",
        ": most of its letters are unknown to the model; write it in English, or have a prompt rewriter configured",
    ),
    "last_frame": ("：不支持尾帧，请只传一张图片", ": a last frame is not supported, send one image"),
    "no_images": ("：当前模型不支持图片", ": this model takes no image"),
    "image_format": ("：图片不是可用的 png 或 jpeg", ": the image is not a usable png or jpeg"),
    "image_size": ("：图片过大", ": the image is too large"),
    "image_fetch": ("：图片地址无法访问", ": the image cannot be fetched from its address"),
    "key_scope": ("：该密钥没有所需的权限范围", ": the key lacks the scope for it"),
    "key_network": ("：该密钥不能从此网络使用", ": the key may not be used from this network"),
    "key_model": ("：该密钥不能使用此模型", ": the key may not use this model"),
    "link": ("，或链接已失效", ", or its link has expired"),
    "json": ("：请求体不是合法的 JSON", ": the body is not valid JSON"),
    "body_size": ("：请求体过大", ": the body is too large"),
    "media_type": ("：请求体须为未压缩的 JSON", ": the body must be JSON and not packed"),
    "http": ("：不是合法的 HTTP 请求", ": this is not valid HTTP"),
    "head_size": ("：请求头过大", ": the request's headers are too large"),
    "head_slow": ("：请求头接收超时", ": the request's headers took too long to arrive"),
    "body_slow": ("：请求体接收超时", ": the body took too long to arrive"),
}
