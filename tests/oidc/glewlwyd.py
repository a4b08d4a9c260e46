"""Debian's glewlwyd as an issuer: its OpenID plugin, one client that gets tokens for itself, keys that rotate."""
import base64
import gzip
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import packages
from ports import Ports

sys.path.insert(0, str(packages.HERE.parent / "system"))
import jwtfix  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

CLIENT, SECRET, AUDIENCE = "machine", "client-secret-of-a-test", "https://shop.example"


def private_jwk(kid):
    """An ES256 key with its secret part, as glewlwyd wants it."""
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.private_numbers()
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "d": jwtfix.number(numbers.private_value, 32),
            "x": jwtfix.number(numbers.public_numbers.x, 32), "y": jwtfix.number(numbers.public_numbers.y, 32)}


class Glewlwyd:
    process = dir = None

    def __init__(self):
        root = packages.debian("glewlwyd") / "root"
        self.ports = Ports()
        self.port = self.ports.take()
        self.url = f"http://127.0.0.1:{self.port}/api/oidc"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-glewlwyd-"))
        (self.dir / "none").mkdir()
        self.keys = [private_jwk("g-1")]
        self.cookie = None
        self._database(root / "usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz")
        self._configure(root)
        self.log = open(self.dir / "log", "w")
        self.process = subprocess.Popen([root / "usr/bin/glewlwyd", f"--config-file={self.dir}/glewlwyd.conf"], stdout=self.log,
                                        stderr=self.log, env={"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu")})
        self._login()
        self._set_up()

    def _database(self, script):
        database = sqlite3.connect(self.dir / "glewlwyd.db")
        database.executescript(gzip.open(script, "rt").read())
        database.close()

    def _configure(self, root):
        lib = root / "usr/lib/glewlwyd"
        settings = {"external_url": f"http://127.0.0.1:{self.port}", "login_url": "login.html", "api_prefix": "api",
                    "log_mode": "console", "log_level": "WARNING", "cookie_domain": "127.0.0.1", "session_key": "GLEWLWYD2",
                    "admin_scope": "g_admin", "profile_scope": "g_profile", "hash_algorithm": "SHA256",
                    "user_module_path": lib / "user", "user_middleware_module_path": self.dir / "none", "client_module_path": lib / "client",
                    "user_auth_scheme_module_path": lib / "scheme", "plugin_module_path": lib / "plugin"}
        text = "".join(f'{name}="{value}"\n' for name, value in settings.items())
        (self.dir / "glewlwyd.conf").write_text(
            f'port={self.port}\nbind_address="127.0.0.1"\ncookie_secure=0\nsession_expiration=86400\n{text}'
            f'database = {{ type = "sqlite3"; path = "{self.dir}/glewlwyd.db"; }};\n')

    def call(self, method, path, body=None, headers=None):
        """(status, headers, parsed body or None) of a request to the API."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **({"Cookie": self.cookie} if self.cookie else {}), **(headers or {})}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text = answer.read()
                return answer.status, answer.headers, json.loads(text) if text.strip() else None
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode(errors="replace")

    def must(self, method, path, body=None, headers=None):
        status, fields, answer = self.call(method, path, body, headers)
        assert status == 200, (method, path, status, answer, (self.dir / "log").read_text()[-2000:])
        return fields, answer

    def _login(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                fields, _ = self.must("POST", "/auth/", {"username": "admin", "password": "password"})
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, (self.dir / "log").read_text()
                time.sleep(0.1)
        self.cookie = fields["Set-Cookie"].split(";")[0]

    def _plugin(self):
        return {"module": "oidc", "name": "oidc", "display_name": "OpenID", "enabled": True, "parameters": {
            "iss": self.url, "jwt-type": "sha", "jwt-key-size": "256", "jwks-private": json.dumps({"keys": self.keys}),
            "jwks-uri": "", "default-kid": self.keys[0]["kid"], "jwks-show": True, "access-token-duration": 300,
            "refresh-token-duration": 3600, "code-duration": 60, "refresh-token-rolling": True, "allow-non-oidc": True,
            "auth-type-client-enabled": True, "auth-type-code-enabled": False, "auth-type-token-enabled": False,
            "auth-type-id-token-enabled": False, "auth-type-none-enabled": False, "auth-type-password-enabled": False,
            "auth-type-refresh-enabled": False, "auth-type-device-enabled": False, "subject-type": "public",
            "oauth-rfc9068": True, "resource-allowed": True, "resource-scope": {"orders.read": [AUDIENCE]},
            "resource-change-allowed": False}}

    def _set_up(self):
        self.must("POST", "/scope", {"name": "orders.read", "display_name": "x", "description": "orders", "password_required": False,
                                     "password_max_age": 0, "scheme": {}})
        self.must("POST", "/mod/plugin/", self._plugin())
        self.must("POST", "/client?source=database", {
            "client_id": CLIENT, "name": CLIENT, "enabled": True, "confidential": True, "password": SECRET, "client_secret": SECRET,
            "scope": ["orders.read"], "authorization_type": ["client_credentials"], "redirect_uri": ["http://127.0.0.1/"],
            "token_endpoint_auth_method": ["client_secret_basic"], "resource": [AUDIENCE]})

    def token(self):
        secret = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        body = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "orders.read", "resource": AUDIENCE}).encode()
        _, answer = self.must("POST", "/oidc/token", body, {"Authorization": "Basic " + secret,
                                                             "Content-Type": "application/x-www-form-urlencoded"})
        return answer["access_token"]

    def show(self, *kids, sign):
        """Publish the keys of these kids, made where they are new, and sign with one of them."""
        known = {key["kid"]: key for key in self.keys}
        self.keys = [known.get(kid) or private_jwk(kid) for kid in (sign, *(kid for kid in kids if kid != sign))]
        self.must("PUT", "/mod/plugin/oidc", self._plugin())
        for word in ("disable", "enable"):  # it reads its settings when it starts
            self.must("PUT", f"/mod/plugin/oidc/{word}/")
        return [key["kid"] for key in self.keys]

    def stop(self):
        """Also where it never came to run."""
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.log.close()
        if self.dir:
            shutil.rmtree(self.dir)
            self.ports.release()
