#!/usr/bin/python3
"""Writes the seed corpora tests/fuzz/corpus/<target>/ from the golden vectors: tests/fuzz/seeds.py"""
import base64
import hashlib
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
HEX = bytes(range(32)).hex()
UID = "01890a5d-ac96-774b-bcce-b302099a8057"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def unsigned(token):
    """Header and payload on two lines, from which a target makes a rightly signed token."""
    parts = token.split(".")
    return b"\n".join(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4)) for p in parts[:2])


def tokens(name):
    """All that are accepted, the first refused one of every few, each decoded; two as they are."""
    cases = golden(name)["cases"]
    good = [c["token"] for c in cases if c["expect"] == "ok"]
    bad = [c["token"] for c in cases if c["expect"] != "ok" and c["token"].count(".") == 2]
    for token in good + bad[::6]:
        if len(token) < 1600:
            yield unsigned(token)
    yield from (token.encode() for token in good[:2])


def documents():
    for name in ("token", "usertoken"):
        for seed in tokens(name):
            yield from seed.split(b"\n", 1)
    for text in ('[1,-2.5e+3,0,true,false,null,"x"]', '{"a":{"b":[{}]},"c":"\\u00e4\\ud83d\\ude00\\n"}',
                 "[" * 16 + "]" * 16, '{"id":"acme","limits":{"requests_per_second":100,"burst":200}}',
                 '{"a":1,"\\u0061":2}', '"\\ud800"'):
        yield text.encode()


def tenant_documents():
    for text in ('{}', '{"id":"acme","name":"A","tier":"standard","limits":{"requests_per_second":1,"burst":1000000}}',
                 '{"teir":1,"limits":{"rps":1,"burst":0}}', '{"id":"Bad","name":"\\u0085","a/b~c":[]}', '[]',
                 '{"tier":"gold","edge":{"limits":["d"],"routes":[{"path":"/a/**","limits":["d"]}]},"domains":["a.example"],'
                 '"endpoints":["127.0.0.1:80;weight=2"]}', '{"domains":["a.example","a.example",7],"endpoints":[[]],"edge":[]}',
                 '{"kind":"tier","name":"gold","edge":{"quota_policies":[{"name":"d","quota":5}],"limits":["d"]},"etag":1}',
                 '{"kind":"tier","name":"t1","edge":{"limits":["x"]},"limits":{}}',
                 '{"uid":[{"x":null}],"conditions":1,"etag":""}', '{"limits":{"burst":-0,"requests_per_second":1e2}}'):
        yield text.encode()


def policies():
    limits = '"quota_policies":[{"name":"a","requests_per_second":1,"per":"subject"},{"name":"b","quota":9,"window":"month"},{"name":"c","concurrent":3}]'
    for text in ('{}', '{"auth":"app","app_scope":"a b","issuers":["corp"],"user_tokens":false,"api_keys":true}',
                 '{%s,"limits":["b","c"],"unlisted":"deny","routes":[{"path":"/a/*/**","methods":["GET"],"scopes":["x"],"limits":["a"]},'
                 '{"path":"/","anonymous":true,"max_body_bytes":5,"timeout_ms":7}]}' % limits,
                 '{"maintenance":{"message":"x","retry_after_seconds":1},"encoded_paths":true,"x_ratelimit_headers":true}',
                 '{"routes":[{"path":"/a//b"},{"path":"/%2f","roles":[1]}],"limits":["z"]}', "/a%2fb//c"):
        yield text.encode()


def queries():
    yield from (b"", b"limit=5&page_token=&state=active&q=a+b%20%C3%A4", b"&&q=1&q=2&x=%zz&limit", b"q=%00&%71=%FF",
                b"=&%&q=%4", b"LIMIT=1&li%6Dit=2")


def key_files():
    row = f"main.1 {HEX} 1790000000 1800000000\n"
    yield from (b"", row.encode(), row.rstrip().encode(), (row + row.replace(".1", ".2")).encode(),
                "".join(row.replace(".1", f".{i}") for i in range(4)).encode(), (row + row).encode(),
                row.replace("0102", "01 2").encode(), row.upper().encode())


def keyrings():
    user = f"user 1 {HEX} 1790000000 1800000000\n"
    server = f"server main main.1 {HEX} 1790000000 1800000000\n"
    head = f"install {UID}\ncell {UID}\n"
    cell = f"hash {HEX}\nseal {HEX}\n"
    for text in (head, head + cell + user + server, head + cell + cell, head + user + server, head + user + user.replace(" 1 ", " 2 ") + server +
                 server.replace("main.1", "main.2") + server.replace("main", "other"), user, "",
                 head + server.replace(" main ", " \0main ")):
        yield text.encode()


def feeds():
    record = json.dumps({"id": "acme", "uid": UID, "epoch": 1, "state": "active", "tier": "standard", "rate": 100,
                         "burst": 200, "share": 1000, "server": "main", "database": "shared1",
                         "endpoints": ["127.0.0.1:7090", "[::1]:80", "unix:/run/x"], "cell": "main"},
                        separators=(",", ":"))
    row = '{"incarnation":"%s","seq":12,"no":42,"version":3,"record":%s}\n'
    for text in (row % (UID, record), row % (UID, "null"), '{"head":13}\n', '{"head":1}\n\n{"head":-1}\n[]\n',
                 '{"format":1,"incarnation":"%s","seq":13}\n' % UID + row % (UID, record) + '{"head":12',
                 '{"incarnation":"%s","seq":14,"document":"policy/gold","version":2,"body":"{\\"auth\\":\\"app\\"}"}\n' % UID,
                 row % (UID, record.replace("}", ',"policy":"gold","domains":["shop.example.com"]}')),
                 row % (UID, "{}"), row % (UID, record.replace("127.0.0.1:7090", "x y:1"))):
        yield text.encode()


def cookies():
    for text in ("s=1", "s=1; Domain=example.com; Path=/a; Secure; HttpOnly; SameSite=Lax", "s=1;domain = .acme.example.com ;path",
                 "s=1; Path=/../globex; Path=x; Domain=; Domain", ";;=;Path=", "__Host-a=b; Path=/; Max-Age=0"):
        yield text.encode()


def names():
    name = b"shop.example"
    for body in (b"\0\x0f\0\0\x0c" + name, b"\0\x10\0\0\x0d" + name.upper() + b".", b"\0\x1e" + 2 * (b"\0\0\x0c" + name),
                 b"\0\x0f\1\0\x0c" + name, b"", b"\0\0", b"\0\x0f\0\0\x20" + name, b"\1\x03\0\1\0" + b"a." * 128):
        yield body


def key_sets():
    ed = '{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
    ec = ('{"kty":"EC","crv":"P-256","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",'
          '"y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}')
    for text in (ed, ec, ed + "," + ec, '{"kty":"RSA","n":"AQAB","e":"AQAB","key_ops":["verify"]}', '{"kty":"oct","k":"AA"}'):
        yield ('{"keys":[%s]}' % text).encode()
    part = lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"=")
    yield b".".join([part('{"alg":"EdDSA","typ":"JWT","kid":"k1"}'),
                     part('{"iss":"https://id.example","aud":["shop"],"sub":"u1","exp":1700000060,"nbf":1,"a":{"b":[1]}}'),
                     base64.urlsafe_b64encode(bytes(64)).rstrip(b"=")])


def issuers():
    keys = json.loads(next(key_sets()))
    head = {"issuer": "https://id.example", "audiences": ["shop"]}
    for more in ({}, {"keys": keys}, {"algorithms": ["RS256", "EdDSA"], "claims": {"subject": "email", "roles": "a.b"}},
                 {"keys": keys, "claims": {"tenant": "org"}, "tenant_values": {"o1": "acme"}, "subject_prefix": "c:",
                  "leeway_seconds": 0, "max_age_seconds": 60}, {"algorithms": ["none"]}, {"keys": {"keys": [{"kty": "oct"}]}}):
        yield json.dumps({**head, **more}, separators=(",", ":")).encode()


def api_keys():
    yield b"bhk_abcdefgh_0123456789abcdefghijABCDEFGHIJ01"
    for more in ("", ',"scope":"a b","roles":["x"],"not_after":1790000000,"epoch":1', ',"roles":[1]'):
        yield ('{"no":7,"sub":"ci"%s}' % more).encode()


def nginx_files():
    text = (HERE.parents[1] / "deploy/local/nginx.conf").read_text()
    start = text.index("    server {")
    yield text[start:start + 1500].encode() + b"}" * 3
    yield (b"# configuration file /n/n.conf:\nhttp{include s/*;}\n# configuration file /n/s/a:\nserver{bulkhead on;"
           b"listen [::]:80 default_server;proxy_cache c;location / {proxy_pass http://b;}}")
    yield (b"upstream b{bulkhead;}server{proxy_set_header X-Tenant-ID 'x\\'y';grpc_set_header Host $host;"
           b"set_real_ip_from ::/0;proxy_store \"${a}b\";location /{grpc_pass grpc://b;}}")


def tenant_files():
    for path in sorted((HERE.parents[1] / "examples/tenants").glob("*/tenant.yaml")):
        yield path.read_bytes()
    for text in ("id: x\nlimits: {burst: 1e3, requests_per_second: 0x10}\n", "id: &a x\nname: *a\n", "id: !!str x\n",
                 "%YAML 1.2\n---\nid: x\n...\n---\n", "\ufeffid: 'x'\r\nname: \"\\u00e4\"\r\n",
                 "id: x\nname: |\n  a\n  b\ntier: >-\n  c\n", '{"id": "x", "conditions": [{"type": "a"}]}',
                 "id: x\n  name: y: z\n", "? [a, b]\n: {c: d}\n", "id: x\nlimits:\n\tburst: 5\n", "[[[[[[[[[[[[[[[[[[]]"):
        yield text.encode()


def statements():
    yield from (b"SELECT * FROM t43.notes WHERE a IN (1, -2, $3) AND b = ARRAY['x', E'\\'']; -- it's\n",
                b"DO $a$ BEGIN /* /* */ ' */ PERFORM $$x$$; END $a$", b'SELECT "a""b", U&"\\0061", x\'ff\', 1.5e-3::int =-1',
                b"INSERT INTO a VALUES (1, .5), (2, 1e5); ;", b"'", b'"', b"$x$", b"/*", b"$1$", b"E'\\", b"\xff\x00,")


def refusals():
    for format, text in (("permission denied for table %s", "permission denied for table \xff"), ("%s is not allowed while a tenant is bound", "SET is"),
                         ('permission denied for column "%s" of relation "%s"', 'permission denied for column "a" of relation "b"'),
                         ("token refused: %s", "token refused: x"), ("%-5.*lf%%", "1")):
        yield f"{format}\n{format}\n{text}\n\\a\n".encode()
    yield "permission denied for column %s of %s\n%2$s: %1$s\na: b".encode()


def main():
    corpora = {"token": tokens("token"), "usertoken": tokens("usertoken"), "json": documents(),
               "tenantdoc": tenant_documents(), "policy": policies(), "issuer": issuers(), "apikey": api_keys(), "query": queries(),
               "endpoint": (b"127.0.0.1:7090", b"[::1]:80;backup", b"unix:/run/x;weight=7;group=v2",
                            b"10.0.0.1:443;group=v2.1_b;tls=app.example.com;grpc;backup;weight=1000", b"a:1;weight=0"),
               "host": (bytes.fromhex(c["host_hex"]) for c in golden("host")["cases"]),
               "keyfile": key_files(), "keyring": keyrings(), "yaml": tenant_files(), "nginxconf": nginx_files(),
               "feed": feeds(), "cookie": cookies(), "sni": names(), "jwt": key_sets(),
               "fingerprint": statements(), "refusal": refusals()}
    for target, seeds in corpora.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("find-"):  # what a run found once is kept
                old.unlink()
        for seed in seeds:
            (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main()
