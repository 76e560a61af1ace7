"""Every Redis key, spelled once. One hash tag puts them all on one shard, which the scripts need."""

import hashlib

TAG = "{cogvideox}:"

# Prefixes: scripts append an id that a caller never chooses.
JOB = TAG + "job:"
ATTEMPTS = TAG + "attempts:"
WAITING = TAG + "waiting:"
WAKE = TAG + "wake:"
CLAIM_NONCE = TAG + "claim-nonce:"
ALPHABET = TAG + "alphabet:"
WORKER = TAG + "worker:"
API_KEY = TAG + "api-key:"
TENANCY = TAG + "tenancy:"
SCHEDULE = TAG + "schedule:"

# Single keys.
LEASES = TAG + "leases"
REAPED = TAG + "reaped-ms"
DEAD = TAG + "dead"
AUDIT = TAG + "audit"
AUDIT_SEQ = TAG + "audit-seq"
AUDIT_STATE = TAG + "audit-state"
AUDIT_SEALED = TAG + "audit-sealed"
AUDIT_CONTENT = TAG + "audit-content"
AUDIT_CHECKPOINTS = TAG + "audit-checkpoints"
AUDIT_COUNTS = TAG + "audit-counts"
AUDIT_ERASURES = TAG + "audit-erasures"
RESTRICTED = TAG + "restricted"
AUDIT_NONCE = TAG + "audit-nonce:"
API_KEYS = TAG + "api-keys"
WORKERS = TAG + "workers"
WAITING_SEQ = TAG + "waiting-seq"

# Channels.
CANCELS = TAG + "cancels"


def job(job_id: str) -> str:
    return JOB + job_id


def attempts(job_id: str) -> str:
    return ATTEMPTS + job_id


def waiting(route: str) -> str:
    return WAITING + route


def wake(route: str) -> str:
    return WAKE + route


def idempotency(tenant: str, request_id: str) -> str:
    """What callers choose is hashed: it can never shape a key."""
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}{request_id}".encode(errors="surrogatepass")).hexdigest()
    return TAG + "idempotency:" + digest


def tenant_jobs(tenant: str) -> str:
    """The tenant's jobs in the order of acceptance."""
    return TAG + "tenant-jobs:" + hashlib.sha256(tenant.encode()).hexdigest()


def alphabet(route: str) -> str:
    return ALPHABET + route


def worker(name: str) -> str:
    return WORKER + name


def api_key(key_id: str) -> str:
    return API_KEY + key_id


def schedule(kind: str) -> str:
    """What house.lua keeps by a time: delayed, deadlines, ended; and which routes are paused, which images needed."""
    return SCHEDULE + kind


def tenancy(kind: str, *parts: str) -> str:
    """What tenants and the fair order keep; a tenant's name comes last and is an operator's, never a caller's."""
    return TENANCY + ":".join((kind, *parts))


def restriction(tenant: str, user_id: str) -> str:
    """What an operator decided about one end user; what callers choose is hashed."""
    digest = hashlib.sha256(f"{len(tenant)}:{tenant}{user_id}".encode(errors="replace")).hexdigest()
    return TAG + "restriction:" + digest
