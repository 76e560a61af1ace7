"""The file of tenants: closed against mistakes, applied whole, without effect the second time."""

import asyncio
from pathlib import Path

import pytest

from video_jobs import chores
from video_jobs.declared import BadFile, apply, keep_applied, parse
from video_jobs.limits import Tenant
from video_jobs.policy.terms import TenantPolicy
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook

FILE = """
plans:
  gold:
    weight: 4
    service_class: interactive
    limits: {requests_per_minute: 600, running: 8, gpu_seconds_per_day: 36000}
    policy: {words: false, moderation: false}
tenants:
  acme: {plan: gold, title: Acme 股份, limits: {queued: 50}}
  globex: {}
"""


@pytest.fixture
def book(store: JobStore) -> TenantBook:
    return TenantBook(store)


async def test_file_is_applied_once(book: TenantBook) -> None:
    assert await apply(parse(FILE), book) == ["plan gold", "tenant acme", "tenant globex"]
    assert await apply(parse(FILE), book) == []

    terms = await book.terms("acme")
    assert (terms.weight, terms.service_class, terms.title) == (4, "interactive", "Acme 股份")
    assert (terms.limits.queued, terms.limits.running, terms.policy) == (
        50,
        8,
        TenantPolicy(words=False, moderation=False),
    )


async def test_only_what_changed_is_written_and_what_is_not_named_stays(book: TenantBook) -> None:
    await apply(parse(FILE), book)
    await book.put_tenant("byhand", Tenant(title="made by hand"))

    assert await apply(parse(FILE.replace("queued: 50", "queued: 60").replace("  globex: {}\n", "")), book) == [
        "tenant acme"
    ]
    assert set(await book.tenants()) == {"acme", "globex", "byhand"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("plans: {gold: {limits: {requests: 5}}}", "plans.gold.limits.requests"),
        ("plans: {gold: {weight: 0}}", "plans.gold.weight"),
        ("plans: {'a b': {}}", "plans.a b"),
        ("tenant: {}", "tenant"),
        ("tenants: {acme: {enabled: maybe}}", "tenants.acme.enabled"),
        ("tenants: {acme: {}, acme: {}}", "stands twice"),
        ("plans: [", "expected"),
        ("plans: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("- a", "dictionary"),
        ("tenants: {acme: {title: 2001-99-99}}", "month must be"),
        ("[" * 5000, "recursion"),
        (b"tenants: {acme: {title: \xff}}", "invalid start byte"),
        ("plans: {gold: {limits: {gpu_seconds_per_day: .inf}}}", "finite"),
        ("plans: {gold: {limits: {queued: yes}}}", "number"),
    ],
)
def test_mistake_is_named(text: str | bytes, why: str) -> None:
    with pytest.raises(BadFile, match=why):
        parse(text)


async def test_unknown_plan_stops_the_whole_file(book: TenantBook) -> None:
    with pytest.raises(BadFile, match="no plan silver"):
        await apply(parse("tenants: {first: {}, acme: {plan: silver}}"), book)

    assert await book.tenants() == {}


async def test_changed_file_is_applied_again_and_a_bad_one_is_not(book: TenantBook, tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text(FILE)
    keeping = asyncio.create_task(keep_applied(path, book, every_s=0.02))

    await until_title(book, "Acme 股份")
    await book.put_tenant("acme", Tenant(title="by hand"))
    await asyncio.sleep(0.1)
    assert (await book.terms("acme")).title == "by hand", "the file has not changed"
    for bad in (b"tenants: [", b"\xff", b"tenants: {acme: {title: 2001-99-99}}"):
        path.write_bytes(bad)
        await asyncio.sleep(0.1)
        assert not keeping.done()
    path.write_text(FILE.replace("Acme 股份", "New"))
    await until_title(book, "New")

    await chores.end({keeping})
    assert "default" in await book.plans()


async def until_title(book: TenantBook, title: str) -> None:
    async with asyncio.timeout(5):
        while (await book.terms("acme")).title != title:
            await asyncio.sleep(0.02)
