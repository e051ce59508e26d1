"""Calls the management API of a RabbitMQ on this machine: its virtual hosts, and whether it serves."""

import base64
import contextlib
import http.client
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ops.errors import Problem


@dataclass(frozen=True, slots=True)
class Management:
    """One broker's management API, called as `user`. `log` is the broker's log file, which an error names."""

    port: int
    user: str
    password: str = field(repr=False)
    log: Path

    def serves(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._request("GET", "/api/whoami")[0] == http.client.OK
        return False

    def add_vhost(self, name: str) -> None:
        """Make a virtual host that the user may use. Idempotent."""
        self._manage("PUT", f"/api/vhosts/{quote(name, safe='')}", {})
        self._manage(
            "PUT",
            f"/api/permissions/{quote(name, safe='')}/{self.user}",
            {"configure": ".*", "write": ".*", "read": ".*"},
        )

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all its queues, closing its connections. Idempotent."""
        self._manage("DELETE", f"/api/vhosts/{quote(name, safe='')}", None, absent=http.client.NOT_FOUND)

    def vhosts(self) -> set[str]:
        """The names of the virtual hosts there are."""
        _, answer = self._request("GET", "/api/vhosts?columns=name")
        return {vhost["name"] for vhost in json.loads(answer)}

    def definitions(self, vhost: str) -> dict[str, Any]:
        """Its queues, exchanges, bindings, policies and parameters."""
        _, answer = self._request("GET", f"/api/definitions/{quote(vhost, safe='')}")
        shown: dict[str, Any] = json.loads(answer)
        return shown

    def _manage(self, method: str, path: str, body: object, absent: int | None = None) -> None:
        status, answer = self._request(method, path, body)
        if status >= 300 and status != absent:
            raise Problem(f"RabbitMQ answered {status} to {method} {path}: {answer}", f"Its log is {self.log}.")

    def _request(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        with contextlib.closing(connection):
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
