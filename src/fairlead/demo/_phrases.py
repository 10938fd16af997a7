"""The words of the incident reports: several ways to say each fact. Knows nothing of severity or of files."""

from __future__ import annotations

SERVICES = (
    "payments-api", "checkout-web", "auth-gateway", "search-index", "billing-worker", "email-relay",
    "image-store", "inventory-db", "report-engine", "session-cache", "order-queue", "mobile-api",
)  # fmt: skip

# keyword that a good summary names -> ways in which a reporter puts it
SYMPTOMS = {
    "timeouts": (
        "requests time out after 30 s",
        "calls hang until they time out",
        "nearly every call ends in timeouts",
    ),
    "500 errors": (
        "it answers with 500 errors",
        "HTTP 500 all over the place",
        "clients get an internal server error",
    ),
    "slow responses": ("responses are very slow", "p99 latency went through the roof", "pages crawl"),
    "crash loop": (
        "pods are in a crash loop",
        "the process keeps restarting",
        "containers die seconds after start",
    ),
    "stale data": ("it serves stale data", "values shown are hours old", "updates do not show up"),
    "login failures": ("people cannot log in", "logins are rejected", "sign-in fails with a blank page"),
    "missing events": ("events go missing", "messages are dropped on the way", "half the events never arrive"),
    "duplicates": (
        "records come out as duplicates",
        "the same job runs twice",
        "customers receive everything twice",
    ),
}
CAUSES = {
    "bad deploy": (
        "since the deploy this morning",
        "started right after the last release",
        "rollout of a new build",
    ),
    "expired certificate": (
        "a certificate expired",
        "TLS cert ran out overnight",
        "x509: certificate has expired",
    ),
    "full disk": ("the disk is full", "no space left on device", "the volume reached 100% usage"),
    "dns change": ("a DNS record was changed", "names resolve to the old host", "since the DNS switch"),
    "memory leak": ("memory grows until it is killed", "OOMKilled", "heap usage climbs without end"),
    "config change": ("after a config change", "someone edited the feature flags", "a setting was flipped"),
    "lock contention": ("queries wait on locks", "deadlock detected", "a migration holds a table lock"),
    "traffic spike": ("traffic tripled", "far more requests than usual", "a campaign sent a wave of visitors"),
}
REACH = (
    ("a handful of users", "hardly any users", "very few users", "only one customer"),
    ("some users", "a minority of users", "around one in ten users", "one smaller region"),
    ("about half of the users", "a large share of users", "every second request", "most of one region"),
    ("all users", "the whole user base", "everybody", "every single customer"),
)
STAGING = ("staging only", "this is the staging cluster", "env=staging", "seen on staging, not live")
PRODUCTION = ("production", "this is live", "env=prod", "on the production cluster")
DATA_LOSS = (
    "data is being lost",
    "writes are lost for good",
    "rows vanished and there is no backup",
    "permanent data loss",
)
NO_DATA_LOSS = ("no data lost", "data is intact", "nothing is lost so far")
WORKAROUND = (
    "a workaround exists: {fix}",
    "{fix} helps for now",
    "can be bypassed, {fix}",
    "mitigated by hand ({fix})",
)
FIXES = (
    "retry",
    "restart the pod",
    "use the old endpoint",
    "switch to the replica",
    "clear the cache",
    "fail over",
)
NO_WORKAROUND = ("no workaround", "nothing we tried helps", "no way around it")
DISTRACTORS = (
    "{other} looks fine",
    "not related to {other}",
    "{other} was ruled out",
    "{other} is healthy",
    "we first suspected {other}",
)
PEOPLE = ("Ana", "Ben", "Chloe", "Dmitri", "Esra", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Kofi", "Lena")
