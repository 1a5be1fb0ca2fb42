"""`landing_logs`: as `landing`, of requests to web servers as browsers and programs send them.

Bare Spark computes the same derived columns: whoever writes such a job wants them.
"""

from __future__ import annotations

import json
import random
import time

from bench.landing import compare
from bench.rows import Row

HOSTS = ("api.myapp.com", "cdn.myapp.com", "www.myapp.com", "auth.myapp.com")
PATHS = ("/", "/login", "/api/v1/orders", "/search?q=a,b&page=2", "/static/app.js", "/item?id=7")
STATUS = (200, 200, 200, 200, 200, 200, 304, 404, 301, 500)
# Most of what browsers say of themselves has a comma in it.
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "curl/8.8.0",
)


def request(number: int, seconds: float) -> bytes:
    """Return one request of about 300 bytes, made at `seconds` since 1970."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return json.dumps(
        {
            "ts": f"{at}.{int(seconds % 1 * 1000):03d}Z",
            "host": HOSTS[number % 4],
            "method": "POST" if number % 7 == 0 else "GET",
            "path": PATHS[number % 6],
            "status": STATUS[number % 10],
            "bytes": random.randrange(100, 90_000),
            "ip": f"198.18.{number // 250 % 250}.{number % 250}",
            "ua": AGENTS[number // 3 % 4],
            "rt_ms": random.randrange(1, 900),
        }
    ).encode()


def measure(short: bool) -> list[Row]:
    """Land 1,000,000 requests (20,000 when short)."""
    return compare("landing_logs", 0.7, short, request, stream="logs")
