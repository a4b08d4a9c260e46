"""bhtoken.py, which the system tests sign with, against the golden vectors, which another script made."""
import json
import pathlib
import uuid

import bhtoken
import pytest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
load = lambda name: json.loads((GOLDEN / f"{name}.json").read_text())
uid = lambda text: uuid.UUID(text).bytes


@pytest.mark.parametrize("case", load("keys")["derivations"], ids=lambda case: f"{case['name'][-4:]}.{case['epoch']}")
def test_derivations(case):
    master = bytes.fromhex(case["master"])
    place = (master, uid(case["install"]), uid(case["name"]), case["epoch"])
    server_key, cell_key = bhtoken.derive_server_key(*place), bhtoken.derive_user_cell_key(*place)
    assert server_key.hex() == case["server_key"] and cell_key.hex() == case["cell_key"]
    for it in case["databases"]:
        assert bhtoken.database_key(server_key, it["database"]).hex() == it["key"]
    for it in case["tenants"]:
        assert bhtoken.tenant_user_key(cell_key, uid(it["tenant"]), it["epoch"]).hex() == it["key"]
    assert case["databases"] and case["tenants"]


def test_tenant_tokens():
    golden, count = load("token"), 0
    for case in golden["cases"]:
        if case["expect"] != "ok":
            continue
        claims, count = case["claims"], count + 1
        server, database = claims["aud"].split("/")
        assert case["token"] == bhtoken.sign_tenant_token(
            bytes.fromhex(golden["key"]), case["kid"], claims["no"], claims["tenant"], server, database, sub=claims["sub"],
            scope=claims["scope"], use=claims["use"], ver=claims["ver"], iat=claims["iat"], exp=claims["exp"]), case["name"]
    assert count > 3


def test_user_token():
    golden = load("usertoken")
    key = next(k for k in golden["keys"] if (k["no"], k["tenant_epoch"], k["key_epoch"]) == (42, 3, 1))
    plain = next(c for c in golden["cases"] if c["name"] == "plain")
    assert plain["token"] == bhtoken.sign_user_token(
        bytes.fromhex(key["key"]), 42, 3, 1, "acme", golden["install"], sub="u1", now=golden["now"])
