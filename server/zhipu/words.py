"""Zhipu's business errors: code, HTTP status, Chinese and English text.

The whole official table, but for the codes of a chat subscription that no video API has (1309, 1314 to 1321). Where the
official page has no English, or an old one only, the English is ours.
"""

from typing import NamedTuple


class Row(NamedTuple):
    status: int
    zh: str
    en: str
    should_retry: bool = False


TABLE = {
    # The service itself.
    "500": Row(500, "内部错误", "Internal Error", should_retry=True),
    "1200": Row(500, "API 调用失败", "API Call Error", should_retry=True),
    "1230": Row(500, "API 调用流程出错", "API call process error", should_retry=True),
    "1234": Row(
        500,
        "网络错误，错误id：{error_id}，请联系客服",
        "Network error, error id: {error_id}, please contact customer service",
        should_retry=True,
    ),
    # Who calls.
    "1000": Row(401, "身份验证失败", "Authentication Failed"),
    "1001": Row(
        401,
        "Header 中未收到 Authentication 参数，无法进行身份验证",
        "Authentication parameter not received in Header, unable to authenticate",
    ),
    "1002": Row(
        401,
        "Authentication Token 非法，请确认 Authentication Token 正确传递",
        "Invalid Authentication Token, please confirm that the Authentication Token is correctly transmitted",
    ),
    "1003": Row(
        401,
        "Authentication Token 已过期，请重新生成/获取",
        "Authentication Token expired, please regenerate/obtain",
    ),
    "1004": Row(
        401,
        "通过提供的 Authentication Token 的验证失败",
        "Authentication with the provided Authentication Token failed",
    ),
    "1005": Row(401, "已开启二次认证保护，需要二次认证登录。", "Second-factor protection is on; log in with it."),
    # The account.
    "1100": Row(429, "账户读写", "Account Read/Write"),
    "1110": Row(
        429,
        "您的账户当前处于非活动状态，请检查账户信息",
        "Your account is currently inactive. Please check your account information",
    ),
    "1111": Row(429, "您的账户不存在", "Your account does not exist"),
    "1112": Row(
        429,
        "您的账户已被锁定，请联系客服解锁",
        "Your account has been locked. Please contact customer service to unlock it",
    ),
    "1113": Row(429, "您的账户已欠费，请充值后重试", "Your account is in arrears, please recharge and try again"),
    "1120": Row(
        429,
        "无法成功访问您的账户，请稍后重试",
        "Unable to successfully access your account. Please try again later",
    ),
    "1121": Row(
        429,
        "您的账户存在违规行为，账号已被锁定",
        "Your account has irregular activities and has been locked",
    ),
    # The call.
    "1210": Row(
        400,
        "API 调用参数有误，请检查文档",
        "Incorrect API call parameters, please check the documentation",
    ),
    "1211": Row(400, "模型不存在，请检查模型代码", "Model does not exist, please check the model code"),
    "1212": Row(
        400,
        "当前模型不支持 {method} 调用方式",
        "Current model does not support {method} call method",
    ),
    "1213": Row(400, "未正常接收到 {field} 参数", "{field} parameter not received properly"),
    "1214": Row(
        400,
        "{field} 参数非法。请检查文档",
        "Invalid {field} parameter. Please check the documentation",
    ),
    "1215": Row(
        400,
        "{field} 与 {other_field} 不能同时设置，请检查文档",
        "{field} and {other_field} cannot be set simultaneously, please check the documentation",
    ),
    "1220": Row(403, "您无权访问 {api_name}", "You do not have permission to access {api_name}"),
    "1221": Row(400, "API {api_name} 已下线", "API {api_name} has been taken offline"),
    "1222": Row(400, "API {api_name} 不存在", "API {api_name} does not exist"),
    "1231": Row(400, "您已有请求：{request_id}", "You already have a request: {request_id}"),
    "1261": Row(400, "Prompt 超长", "Prompt is too long"),
    # What policy and limits forbid.
    "1300": Row(400, "API 调用被策略阻止", "API call blocked by policy"),
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
    "1303": Row(
        429,
        "您当前使用该 API 的频率过高，请降低频率，或联系客服增加限额",
        "High frequency usage of this API, please reduce frequency or contact customer service to increase limits",
    ),
    "1304": Row(
        429,
        "该 API 已达今日调用次数限额，如有更多请求，请联系客服",
        "Daily call limit for this API reached. For more requests, please contact customer service",
    ),
    "1305": Row(429, "该模型当前访问量过大，请您稍后再试", "The model is under heavy load, please try again later"),
    "1308": Row(
        429,
        "已达到 {number} {unit} 的使用上限。您的限额将在 {next_flush_time} 重置",
        "Usage limit of {number} {unit} reached. Your limit will reset at {next_flush_time}",
    ),
    "1310": Row(
        429,
        "您已达到每周/每月使用上限，您的限额将在 {next_flush_time} 重置",
        "You have reached your weekly/monthly usage limit. Your limit will reset at {next_flush_time}",
    ),
    "1311": Row(
        429,
        "当前订阅套餐暂未开放{model_name}权限",
        "Your current plan does not include access to {model_name}",
    ),
    "1312": Row(
        429,
        "该模型当前访问量过大，请您稍后再试，或切换其他模型使用",
        "The model is under heavy load, please try again later or switch to another model",
    ),
    "1313": Row(
        429,
        "您的账户当前使用模式不符合公平使用策略，请求频率已受到限制",
        "Your account's usage does not follow the fair-use policy, and its request rate is limited",
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
    "content_refused": ("1301", TABLE["1301"].zh, TABLE["1301"].en),
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
    "user_throttled": ("：该终端用户被限速", ": this end user is throttled"),
    "key_scope": ("：该密钥没有所需的权限范围", ": the key lacks the scope for it"),
    "key_network": ("：该密钥不能从此网络使用", ": the key may not be used from this network"),
    "key_model": ("：该密钥不能使用此模型", ": the key may not use this model"),
    "tenant_requests_per_minute": ("：每分钟请求数", ": requests per minute"),
    "user_requests_per_minute": ("：该终端用户的每分钟请求数", ": requests per minute of this end user"),
    "tenant_reads_per_minute": ("：每分钟查询数", ": reads per minute"),
    "tenant_in_flight": ("：未完成的任务数", ": tasks that have not ended"),
    "user_in_flight": ("：该终端用户未完成的任务数", ": tasks of this end user that have not ended"),
    "tenant_queued": ("：排队的任务数", ": tasks in line"),
    "user_queued": ("：该终端用户排队的任务数", ": tasks of this end user in line"),
    "tenant_image_intakes": ("：同时处理的图片数", ": images being taken in at once"),
    "json": ("：请求体不是合法的 JSON", ": the body is not valid JSON"),
    "body_size": ("：请求体过大", ": the body is too large"),
    "link": ("：链接无效或已过期", ": the link is not valid or has expired"),
    "away": ("：服务暂时不可用，请稍后重试", ": the service is temporarily unavailable, please try again later"),
    "media_type": ("：请求体须为未压缩的 JSON", ": the body must be JSON and not packed"),
    "http": ("：不是合法的 HTTP 请求", ": this is not valid HTTP"),
    "head_size": ("：请求头过大", ": the request's headers are too large"),
    "head_slow": ("：请求头接收超时", ": the request's headers took too long to arrive"),
    "body_slow": ("：请求体接收超时", ": the body took too long to arrive"),
}

# What a quota is counted in: Chinese, English.
UNITS = {
    "tenant_gpu_seconds_per_day": ("GPU 秒/天", "GPU seconds a day"),
    "user_gpu_seconds_per_day": ("GPU 秒/天/终端用户", "GPU seconds a day of one end user"),
    "tenant_gpu_seconds_per_month": ("GPU 秒/月", "GPU seconds a month"),
    "user_gpu_seconds_per_month": ("GPU 秒/月/终端用户", "GPU seconds a month of one end user"),
}
