"""The options of `keys` and `tenants`."""

import argparse
import re
from datetime import UTC, date, datetime
from pathlib import Path

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def add_keys(parser: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=kind)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        return _add(actions, name, what)

    create = add("create", "make a key and print it, once")
    taken = add("import", "take in keys that clients hold already, one `id.secret` a line on stdin")
    for action in (create, taken):
        _add_terms(action)
    listing = add("list", "list keys without their secrets")
    listing.add_argument("--tenant", help="only this tenant's")
    listing.add_argument("--json", action="store_true", help="print one JSON line for each key")
    roll = add("roll", "make a key with the same terms and print it; the old one ends after the overlap")
    roll.add_argument("id", help="the old key's id, or the whole key")
    roll.add_argument("--overlap", type=seconds, default=3600.0, help="for how long both work, 30m or 7d (default: 1h)")
    reseal = add("reseal", "seal all keys under a new master key; the old one is named in COGVIDEOX_OLD_KEY_FILES")
    reseal.add_argument(
        "--old", action="append", default=[], type=file, metavar="FILE", help="or here; may be repeated"
    )
    add("revoke", "revoke a key; gateways follow within 5 s").add_argument("id", help="the key's id, or the whole key")


def add_tenants(parser: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=kind)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        return _add(actions, name, what)

    for name, what in (("list", "list tenants with what they have open"), ("plans", "list plans")):
        add(name, what).add_argument("--json", action="store_true", help="print one JSON object")
    add("show", "print a tenant, the terms that hold for it, and where it stands").add_argument("name")
    for name, what in (("set", "make a tenant or change it"), ("plan", "make a plan or change it")):
        action = add(name, what)
        action.add_argument("name")
        action.add_argument("--weight", type=float, help="its share of the pool against others")
        action.add_argument("--class", dest="service_class", choices=["interactive", "standard", "batch"])
        said = "such as requests_per_minute=60; `none` lifts it, `plan` leaves it to the plan; may be given again"
        action.add_argument("--limit", action="append", default=[], metavar="NAME=NUMBER", help=said)
    tenant = actions.choices["set"]
    tenant.add_argument("--plan", help="the plan it has")
    tenant.add_argument("--title", help="its name for people")
    tenant.add_argument("--enabled", choices=["yes", "no"], help="whether its keys open anything")
    apply = add("apply", "apply a YAML file of tenants and plans; print what changed")
    apply.add_argument("file", type=Path)
    apply.add_argument("--check", action="store_true", help="only read the file")
    _add_usage(add("usage", "what was used, per day, tenant, key, model and end user"))


def file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no {text}")
    return Path(text)


def seconds(text: str) -> float:
    read = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not read:
        raise argparse.ArgumentTypeError(f"{text} is not a time such as 90s, 30m, 12h or 7d")
    return float(read[1]) * UNITS[read[2] or "s"]


def moment(text: str) -> int:
    """Seconds of the epoch: the end of a day, or so long from now."""
    try:
        return int(datetime.combine(day(text), datetime.min.time(), UTC).timestamp()) + UNITS["d"]
    except argparse.ArgumentTypeError:
        return int(datetime.now(UTC).timestamp() + seconds(text))


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text} is not a day such as 2030-12-31") from exc


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    action.add_argument("--state", type=Path, help="the state folder of `up` (default: ./state)")
    action.add_argument("--redis-url", help="the Redis to use (default: that of `up`, else COGVIDEOX_REDIS_URL)")
    return action


def _add_terms(action: argparse.ArgumentParser) -> None:
    action.add_argument("--tenant", default="default", help="whose key it is (default: %(default)s)")
    action.add_argument("--name", default="", help="what it is for")
    scopes = ["generate", "read", "admin"]
    said = "what it may do; may be given again (default: generate and read)"
    action.add_argument("--scope", action="append", choices=scopes, help=said)
    action.add_argument("--expires", type=moment, help="its last day, 2030-12-31, or for how long it works, 90d")
    action.add_argument("--model", action="append", default=[], help="only this model; may be given again")
    action.add_argument("--network", action="append", default=[], help="only from here, 10.0.0.0/8; may be given again")


def _add_usage(action: argparse.ArgumentParser) -> None:
    action.add_argument("--since", type=day, help="the first day, by UTC (default: today)")
    action.add_argument("--until", type=day, help="the last day (default: today)")
    action.add_argument("--tenant", help="only this tenant's")
    action.add_argument("--user", help="only this end user's")
    action.add_argument("--by", help="sum by these alone: some of day,tenant,key_id,model,user_id")
    action.add_argument("--csv", action="store_true", help="print CSV (default: one JSON line for each row)")
